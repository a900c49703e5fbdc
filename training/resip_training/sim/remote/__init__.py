"""Simulation in another process: the worker that serves it, and the environment that uses it."""
