from __future__ import annotations

import pytest

from recipes.model import Image, Source
from recipes.project import needs

_SOURCE = Source(("https://example.org/a",))
IMAGES = {
    "disk": Image("disk", "x86_64", "disk", _SOURCE, derive=("raw", "rootfs")),
    "other": Image("other", "x86_64", "disk", _SOURCE, derive=("raw",)),
    "tree": Image("tree", "x86_64", "oci", _SOURCE, derive=("rootfs",)),
    "nothing": Image("nothing", "x86_64", "disk", _SOURCE, derive=()),
}


@pytest.mark.parametrize(
    ("words", "names", "kinds"),
    [
        (["raw:disk"], {"disk"}, {"raw", "content", "fetch"}),
        (["disk"], {"disk"}, {"rootfs", "raw", "content", "fetch"}),
        (["fetch:other", "rootfs:tree"], {"other", "tree"}, {"rootfs", "content", "fetch"}),
        (["raw"], {"disk", "other", "nothing"}, {"raw", "content", "fetch"}),
        (["rootfs"], set(IMAGES), {"rootfs", "raw", "content", "fetch"}),
        (["nothing"], {"nothing"}, set()),
        ([], set(), set()),
    ],
)
def test_words_that_tell(words: list[str], names: set[str], kinds: set[str]) -> None:
    found = needs.of(words, IMAGES)
    assert found is not None
    assert set(found.images) == names
    assert found.kinds == kinds


@pytest.mark.parametrize(
    "word", ["raw:*", "raw:dsik", "raw:tree", "rwa:disk", "boot", "-n", "clone:disk", "push", "resolve:disk", "", ":"]
)
def test_words_that_do_not(word: str) -> None:
    assert needs.of(["raw:disk", word], IMAGES) is None
