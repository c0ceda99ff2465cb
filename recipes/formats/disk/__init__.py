"""Disk images: the protocol, the formats, conversion to sparse RAW."""
