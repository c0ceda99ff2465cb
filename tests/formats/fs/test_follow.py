from __future__ import annotations

from typing import TypeAlias

import pytest

from recipes.errors import CorruptImage
from recipes.formats.fs import follow
from recipes.formats.tree.tree import MAX_LINKS_FOLLOWED

Folder: TypeAlias = dict[bytes, "Folder | bytes | None"]
Place: TypeAlias = Folder | bytes

#: Folders are dictionaries, links bytes, files None.
ROOT: Folder = {
    b"usr": {b"lib": {b"os-release": None}, b"bin": {b"sh": None}},
    b"lib": b"usr/lib",
    b"abs": b"/usr/lib",
    b"up": b"../../../usr",
    b"loop": b"loop",
    b"one": b"two",
    b"two": b"one",
    b"dots": b".//./usr/./bin//",
    b"through": b"lib/../bin/sh",
    b"not through": b"lib/../file",
    b"nowhere": b"/gone",
    b"file": None,
}


def exists(path: bytes, root: Folder = ROOT) -> bool:
    def child(place: Place, name: bytes) -> Place | None:
        if not isinstance(place, dict) or name not in place:
            return None
        found = place[name]
        # A file is something, too.
        return b"" if found is None else found

    def target(place: Place) -> bytes | None:
        return place if isinstance(place, bytes) and place else None

    top: Place = root
    return follow.exists(path, top, child, target)


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"usr", b"/usr/lib/os-release", b"lib/os-release", b"abs/os-release", b"up/lib", b"dots/sh", b"file"],
)
def test_what_is_there(path: bytes) -> None:
    assert exists(path)


@pytest.mark.parametrize(
    "path", [b"gone", b"usr/gone", b"loop", b"one/x", b"nowhere", b"file/x", b"usr/lib/os-release/x"]
)
def test_what_is_not(path: bytes) -> None:
    assert not exists(path)


def test_nothing_is_above_the_root() -> None:
    """Neither for a link, nor for the path itself, which is nobody's but ours."""
    assert exists(b"up/bin/sh")
    with pytest.raises(CorruptImage, match="leaves the root"):
        exists(b"../usr")


def test_a_link_is_left_by_where_it_leads() -> None:
    """As the kernel does, and not as a shell shows it."""
    assert exists(b"through")
    assert not exists(b"not through")


@pytest.mark.parametrize(("links", "found"), [(MAX_LINKS_FOLLOWED, True), (MAX_LINKS_FOLLOWED + 1, False)])
def test_the_kernel_follows_so_many(links: int, found: bool) -> None:
    chain: Folder = {b"%d" % number: b"%d" % (number + 1) for number in range(links)}
    chain[b"%d" % links] = None
    assert exists(b"0", chain) is found
