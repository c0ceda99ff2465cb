"""doit commands that look at the cache or tidy it, one to a module."""
