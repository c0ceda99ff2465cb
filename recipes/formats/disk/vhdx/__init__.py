"""VHDX."""
