"""Demonstration data sets (zarr), the windows cut from them, and the images as the network sees them."""
