"""The disk that comes with larder, and what builds it."""
