from __future__ import annotations

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs.btrfs.layout import ITEM, NODE
from recipes.formats.fs.btrfs.nodes import Key, Nodes, Pointer
from tests.kit.btrfs_volumes import FIRST, LOGICAL, SECOND, SIZE, head, inner, leaf, nodes, pointer, sealed, volume

KEYS: list[Key] = [(256, 1, 0), (256, 12, 256), (257, 1, 0)]
LEAF = leaf(LOGICAL, [(key, b"body %d" % number) for number, key in enumerate(KEYS)])


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def test_a_leaf() -> None:
    node = nodes(LEAF).read(pointer())
    assert (node.level, node.physical, node.raw) == (0, FIRST, LEAF)
    assert [item[:3] for item in node.items] == KEYS
    assert [node.raw[NODE.size + at :][:size] for *_, at, size in node.items] == [b"body 0", b"body 1", b"body 2"]


def test_an_inner_node() -> None:
    node = nodes(inner(LOGICAL, 1, [(key, 4096 * number) for number, key in enumerate(KEYS)])).read(pointer(level=1))
    assert [(item[:3], item[3], item[4]) for item in node.items] == [(key, 4096 * n, 1) for n, key in enumerate(KEYS)]


def test_an_empty_leaf_is_one_and_an_empty_inner_node_is_none() -> None:
    assert nodes(leaf(LOGICAL, [])).read(pointer()).items == []
    with pytest.raises(CorruptImage, match="0 items are in no node"):
        nodes(inner(LOGICAL, 1, [])).read(pointer(level=1))


@pytest.mark.parametrize("at", [0, 3, 32, 48, 100, 101, SIZE - 1])
def test_a_checksum(at: int) -> None:
    with pytest.raises(CorruptImage, match=f"the node at {LOGICAL:#x}: expected the checksum"):
        nodes(flipped(LEAF, at)).read(pointer())


def test_the_second_copy_serves() -> None:
    found = Nodes(volume({LOGICAL: flipped(LEAF, 200)}, second={LOGICAL: LEAF})).read(pointer())
    assert (found.physical, found.raw) == (SECOND, LEAF)
    with pytest.raises(CorruptImage, match=r"expected the checksum"):
        Nodes(volume({LOGICAL: flipped(LEAF, 200)}, second={LOGICAL: inner(LOGICAL, 1, [])})).read(pointer())


@pytest.mark.parametrize(
    "wrong",
    [
        leaf(LOGICAL + SIZE, []),
        leaf(LOGICAL, [], generation=2),
        leaf(LOGICAL, [], fsid=b"g" * 16),
        inner(LOGICAL, 1, [((1, 1, 1), 0)]),
    ],
    ids=["address", "generation", "file system", "level"],
)
def test_a_node_that_is_another(wrong: bytes) -> None:
    with pytest.raises(CorruptImage, match="expected address, level and generation"):
        nodes(wrong).read(pointer())


def test_more_levels_than_there_can_be() -> None:
    with pytest.raises(CorruptImage, match="expected address, level and generation"):
        nodes(inner(LOGICAL, 8, [((1, 1, 1), 0)])).read(pointer(level=8))


@pytest.mark.parametrize("count", [160, 0xFFFFFFFF])
def test_more_items_than_there_is_room_for(count: int) -> None:
    with pytest.raises(CorruptImage, match=f"{count} items are in no node of {SIZE} bytes"):
        nodes(sealed(head(LOGICAL, count))).read(pointer())


@pytest.mark.parametrize("keys", [[(2, 0, 0), (1, 0, 0)], [(1, 0, 0), (1, 0, 0)], [(1, 2, 0), (1, 1, 9)]])
def test_keys_out_of_order(keys: list[Key]) -> None:
    with pytest.raises(CorruptImage, match="is not where it belongs"):
        nodes(leaf(LOGICAL, [(key, b"") for key in keys])).read(pointer())
    with pytest.raises(CorruptImage, match="not in ascending order"):
        nodes(inner(LOGICAL, 1, [(key, 0) for key in keys])).read(pointer(level=1))


@pytest.mark.parametrize(
    "places",
    [[(SIZE, 10)], [(SIZE - NODE.size - 11, 10)], [(SIZE - NODE.size - 10, 11)], [(0, 0xFFFFFFFF)]],
    ids=["behind the end", "a gap", "too long", "far too long"],
)
def test_data_that_is_not_where_it_belongs(places: list[tuple[int, int]]) -> None:
    packed = b"".join(ITEM.pack(1, 1, number, *place) for number, place in enumerate(places))
    with pytest.raises(CorruptImage, match="is not where it belongs"):
        nodes(sealed(head(LOGICAL, len(places)) + packed)).read(pointer())


def test_data_over_the_items() -> None:
    room = SIZE - NODE.size
    packed = ITEM.pack(1, 1, 0, 24, room - 24)
    with pytest.raises(CorruptImage, match="more data than there is room for"):
        nodes(sealed(head(LOGICAL, 1) + packed)).read(pointer())


def test_the_first_key_is_what_the_parent_says() -> None:
    assert nodes(LEAF).read(pointer(first=KEYS[0])).items
    for first, raw in ((KEYS[1], LEAF), (KEYS[0], leaf(LOGICAL, []))):
        with pytest.raises(CorruptImage, match="to be the first"):
            nodes(raw).read(pointer(first=first))


@pytest.mark.parametrize("address", [LOGICAL + 1, LOGICAL + 2048, 1 << 62])
def test_where_no_node_can_be(address: int) -> None:
    with pytest.raises(CorruptImage, match=r"no sector begins at|no chunk has"):
        nodes(LEAF).read(pointer(address))


def test_what_is_kept_is_not_read_again_and_has_an_end() -> None:
    found = nodes(LEAF)
    assert found.kept(pointer()) is found.kept(pointer())
    assert found.read(pointer()) is not found.kept(pointer())
    found._most = 1
    other = Nodes(volume({LOGICAL: LEAF, LOGICAL + SIZE: leaf(LOGICAL + SIZE, [])}))
    other._most = 1
    first = other.kept(pointer())
    other.kept(Pointer(LOGICAL + SIZE, 0, 1))
    assert other.kept(pointer()) is not first
