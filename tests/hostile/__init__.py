"""Inputs that mean harm, and the bounds that hold against them: ``python -m tests.hostile --help``."""
