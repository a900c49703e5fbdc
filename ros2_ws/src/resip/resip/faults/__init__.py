"""The fault matrix: what goes wrong in the running graph, how soon the arm holds, and that it holds until re-armed."""
