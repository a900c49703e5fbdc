"""Cameras behind one small interface."""
