"""Single steps: a file made from a file, without cache or doit."""
