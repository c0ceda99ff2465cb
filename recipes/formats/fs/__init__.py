"""File systems and what holds them: partitions, the table of file systems, the root of a disk."""
