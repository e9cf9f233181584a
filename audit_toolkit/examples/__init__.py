"""Demonstration data, shipped with the package."""
