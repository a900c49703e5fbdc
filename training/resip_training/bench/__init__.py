"""How fast the simulation is, and what it needs."""
