"""What is in a hosted sparse extent, the form of VMDK that is one file.

Specification: VMware, Virtual Disk Format 5.0 (2011), "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse
Extents". All numbers are little-endian, and places are sectors of 512 bytes.
"""

from __future__ import annotations

import struct

MAGIC = b"KDMV"
#: Magic, version, flags, capacity, grain size; descriptor's place and size, entries of a grain table; places of the
#: redundant and of the grain directory, overhead; unclean shutdown, line ends, compression.
HEADER = struct.Struct("<4sII4QI3QB4sH")
#: The place of a grain directory that only the footer knows ("GD_AT_END").
AT_END = (1 << 64) - 1
#: What shows whether the file was transferred as text.
LINE_ENDS = b"\n \r\n"

LINE_TEST, REDUNDANT, ZEROED, COMPRESSED, MARKERS = 1 << 0, 1 << 1, 1 << 2, 1 << 16, 1 << 17
#: Flags that larder knows what to make of.
FLAGS = LINE_TEST | REDUNDANT | ZEROED | COMPRESSED | MARKERS
DEFLATE = 1

TABLE_ENTRIES = 512
#: What a grain table has of a grain that is zeros, if the flags say that there are such.
ZERO_GRAIN = 1

#: In front of a compressed grain: its place on the disk, and its bytes.
GRAIN_MARKER = struct.Struct("<QI")
#: In front of metadata: sectors, 0, and what it is.
MARKER = struct.Struct("<QII")
FOOTER_MARKER = 3
