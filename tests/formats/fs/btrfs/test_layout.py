from __future__ import annotations

from recipes.formats.fs.btrfs import layout
from recipes.formats.fs.btrfs.layout import Superblock
from tests.kit.btrfs_volumes import superblock


def test_structures_are_as_long_as_the_kernels() -> None:
    """include/uapi/linux/btrfs_tree.h."""
    sizes = {
        **{"KEY": 17, "NODE": 101, "ITEM": 25, "POINTER": 33, "CHUNK_BODY": 48, "STRIPE": 32, "INODE_BODY": 160},
        **{"DIR_ENTRY": 30, "INODE_REF_BODY": 10, "ROOT_REF_BODY": 18, "EXTENT_HEAD": 21, "FILE_EXTENT": 32},
        "ROOT_ITEM_BODY": 239,
    }
    assert {name: getattr(layout, name).size for name in sizes} == sizes


def test_a_superblock_is_where_the_kernel_has_it() -> None:
    """struct btrfs_super_block."""
    places = {
        **{"bytenr": (48, 8), "flags": (56, 8), "generation": (72, 8), "root": (80, 8), "chunk_root": (88, 8)},
        **{"log_root": (96, 8), "total_bytes": (112, 8), "num_devices": (136, 8), "sector_size": (144, 4)},
        **{"node_size": (148, 4), "system_chunks_size": (160, 4), "incompat": (188, 8), "checksum_type": (196, 2)},
        **{"root_level": (198, 1), "chunk_root_level": (199, 1), "device": (201, 8), "device_size": (209, 8)},
    }
    raw = bytearray(superblock())
    for number, (at, size) in enumerate(places.values(), 1):
        raw[at : at + size] = number.to_bytes(size, "little")
    raw[32:48], raw[64:72], raw[299:304], raw[571:587] = b"f" * 16, layout.MAGIC, b"label", b"m" * 16
    found = Superblock.unpack(bytes(raw))
    assert [getattr(found, name) for name in places] == list(range(1, len(places) + 1))
    assert (found.fsid, found.magic, found.label[:5], found.metadata_uuid) == (
        b"f" * 16,
        layout.MAGIC,
        b"label",
        b"m" * 16,
    )


def test_types_of_files_are_those_of_modes() -> None:
    import stat

    assert layout.FILE_TYPES[layout.DIRECTORY] << 12 == stat.S_IFDIR
    assert layout.FILE_TYPES[layout.SYMLINK] << 12 == stat.S_IFLNK
    assert layout.FILE_TYPES[layout.SOCKET] << 12 == stat.S_IFSOCK
    assert len(set(layout.FILE_TYPES.values())) == 7
