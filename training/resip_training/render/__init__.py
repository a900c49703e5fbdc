"""Rendering of simulated scenes."""
