"""Tar archives as trees, trees as tar archives."""
