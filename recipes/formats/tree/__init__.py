"""A root file system in memory."""
