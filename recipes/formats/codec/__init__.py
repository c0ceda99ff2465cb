"""Outer compressions: gzip, bzip2, xz, zstd."""
