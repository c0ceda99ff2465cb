"""larder: derive, verify and cache the disk images that virtual machines and containers start from."""

__version__ = "0.1.0"
