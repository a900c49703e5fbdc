"""Checks of the simulation against a slower one of the true shapes."""
