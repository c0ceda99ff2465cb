"""What a command works with, and the facts behind status, plan, prune and verify; knows no doit."""
