"""Policies acting in simulated worlds: chunks, episodes, and the environment that a residual learns in."""
