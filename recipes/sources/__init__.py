"""The outside world: where wrappers and checksum lists come from."""
