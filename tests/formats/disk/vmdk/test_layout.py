from __future__ import annotations

from recipes.formats.disk.vmdk import layout


def test_places_of_the_specification() -> None:
    """Virtual Disk Format 5.0, SparseExtentHeader, packed."""
    fields = (b"KDMV", 3, 0x30001, 1, 2, 3, 4, 512, 5, 6, 7, 1, b"\n \r\n", 1)
    data = layout.HEADER.pack(*fields)
    for at, size, value in (
        (12, 8, 1),
        (20, 8, 2),
        (28, 8, 3),
        (36, 8, 4),
        (44, 4, 512),
        (48, 8, 5),
        (56, 8, 6),
        (64, 8, 7),
    ):
        assert int.from_bytes(data[at : at + size], "little") == value
    assert data[72] == 1
    assert data[73:77] == layout.LINE_ENDS
    assert layout.GRAIN_MARKER.size == 12
