from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.disk.file import ImageFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Thing(ImageFile):
    title = "THING"


@pytest.fixture
def thing(tmp_path: Path) -> Iterator[Thing]:
    path = tmp_path / "disk.thing"
    path.write_bytes(bytes(range(100)))
    with path.open("rb") as file:
        yield Thing(file.fileno(), path)


@pytest.mark.parametrize(("offset", "size"), [(0, 0), (0, 100), (99, 1), (100, 0), (10, 5)])
def test_what_is_there(thing: Thing, offset: int, size: int) -> None:
    assert thing.read(offset, size, "it") == bytes(range(100))[offset : offset + size]


@pytest.mark.parametrize(("offset", "size"), [(0, 101), (100, 1), (1 << 62, 1), (99, 1 << 62)])
def test_what_is_not(thing: Thing, offset: int, size: int) -> None:
    with pytest.raises(CorruptImage) as caught:
        thing.read(offset, size, "the table")
    assert caught.value.message == (
        f"{thing.path}: truncated THING image: the table ends at byte {offset + size}, and the file at byte 100"
    )


def test_a_file_that_got_shorter(thing: Thing) -> None:
    thing.path.write_bytes(b"short")
    with pytest.raises(CorruptImage, match="truncated THING image: it ends at byte 10"):
        thing.read(0, 10, "it")


def test_the_size_of_a_disk(thing: Thing) -> None:
    thing.require_size(512, 512)
    with pytest.raises(LimitExceeded, match="the disk has 513 bytes, more than the 512") as caught:
        thing.require_size(513, 512)
    assert "max-virtual-size" in (caught.value.hint or "")


def test_errors_say_file_and_format(thing: Thing) -> None:
    assert thing.corrupt("no").message == f"{thing.path}: corrupt THING image: no"
    refused = thing.unsupported("a parent", hint="merge it")
    assert refused.message == f"{thing.path}: THING with a parent is not supported"
    assert refused.hint == "merge it"
    assert thing.fileno() == thing.fd
