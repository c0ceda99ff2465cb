from __future__ import annotations

from recipes.formats.disk.vhdx import layout


def test_sizes_of_the_specification() -> None:
    assert layout.HEADER.size == 80
    assert layout.REGION_HEADER.size == 16
    assert layout.REGION.size == layout.METADATA_ENTRY.size == layout.METADATA_HEADER.size == 32
    assert layout.LOG_ENTRY.size == 64
    assert layout.LOG_DESCRIPTOR.size == 32
    assert layout.LOG_DATA.size == layout.LOG_SECTOR == 4096


def test_a_checksum_covers_every_byte_but_its_own() -> None:
    data = layout.checksummed(b"head" + bytes(4) + b"more", 4096)
    assert len(data) == 4096
    assert layout.is_checksummed(data)
    for at in (0, 5, 9, 4095):
        changed = bytearray(data)
        changed[at] ^= 1
        assert not layout.is_checksummed(bytes(changed))
