"""Logical volumes: the bytes that LVM would show, and by name what is not read."""

from __future__ import annotations

import os
import random
import uuid
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LarderError, LimitExceeded
from recipes.formats.fs import lvm
from recipes.formats.io.source import FileSource, read
from tests.kit.lvm_images import AREA, AREA_SIZE, EXTENT, PE_START, UUIDS, group, make, physical, segment, volume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRIPE = 128 * 512

#: One in two parts with another between them, and one in stripes over both physical volumes.
VOLUMES = (
    volume("a", segment(0, 2, ("pv0", 0)), segment(2, 1, ("pv0", 4))),
    volume("c", segment(0, 4, ("pv0", 2), ("pv1", 1))),
)


@contextmanager
def opened(*paths: Path) -> Iterator[list[lvm.Volume]]:
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        yield lvm.volumes([FileSource(file.fileno(), path.name) for file, path in zip(files, paths, strict=True)])


def content(each: lvm.Volume) -> bytes:
    assert each.source is not None
    return read(each.source, 0, each.size)


def extents(path: Path, first: int, count: int) -> bytes:
    with path.open("rb") as file:
        return os.pread(file.fileno(), count * EXTENT, PE_START + first * EXTENT)


def fill(path: Path, seed: int) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), random.Random(seed).randbytes(7 * EXTENT), PE_START)


def check(one: Path, two: Path, found: list[lvm.Volume], name: str = "vg") -> None:
    """Hold both of `VOLUMES` against the physical volumes."""
    linear, striped = found
    assert [(each.name, each.size, each.why_not) for each in found] == [
        (f"{name}/a", 3 * EXTENT, ""),
        (f"{name}/c", 4 * EXTENT, ""),
    ]
    assert content(linear) == extents(one, 0, 2) + extents(one, 4, 1)
    halves = extents(one, 2, 2), extents(two, 1, 2)
    expected = b"".join(half[at : at + STRIPE] for at in range(0, 2 * EXTENT, STRIPE) for half in halves)
    assert content(striped) == expected
    assert striped.source is not None
    for at, length in ((0, 1), (STRIPE - 1, 2), (STRIPE + 5, 3 * STRIPE), (4 * EXTENT - 3, 10), (4 * EXTENT, 1)):
        assert read(striped.source, at, length) == expected[at : at + length]


@pytest.mark.parametrize("tags", [0, pytest.param(80, marks=pytest.mark.long)])
def test_what_lvms_own_tools_wrote(tmp_path: Path, tags: int) -> None:
    """80 tags of 900 bytes make the text go round its ring, each change writes all of it."""
    images = [tmp_path / "one", tmp_path / "two"]
    for image in images:
        with image.open("wb") as file:
            file.truncate(12 << 20)
    name = f"larder{uuid.uuid4().hex[:12]}"
    make(images, name, *VOLUMES, tags=tags)
    for seed, image in enumerate(images):
        fill(image, seed)
    with opened(*images) as found:
        check(images[0], images[1], found, name)


@pytest.mark.parametrize("offset", [512, 1024, AREA_SIZE - 100, AREA_SIZE - 1])
def test_the_text_goes_round_its_ring(tmp_path: Path, offset: int) -> None:
    text = group(*VOLUMES)
    one, two = (physical(tmp_path / each, each * 32, text, offset=offset) for each in "ab")
    fill(one, 1)
    fill(two, 2)
    with opened(one, two) as found:
        check(one, two, found)


def test_the_newest_text_holds(tmp_path: Path) -> None:
    one = physical(tmp_path / "one", UUIDS[0], group(volume("old", segment(0, 1, ("pv0", 0))), sequence=9))
    two = physical(tmp_path / "two", UUIDS[1], group(volume("new", segment(0, 1, ("pv0", 0))), sequence=10))
    for order in ((one, two), (two, one)):
        with opened(*order) as found:
            assert [each.name for each in found] == ["vg/new"]


def test_a_physical_volume_without_text_or_group(tmp_path: Path) -> None:
    one = physical(tmp_path / "one", UUIDS[0], group(*VOLUMES))
    two = physical(tmp_path / "two", UUIDS[1], None, areas=())
    with opened(one, two) as found:
        check(one, two, found)
    for areas in ((), (AREA,)):
        with opened(physical(tmp_path / "three", "c" * 32, None, areas=areas)) as found:
            assert found == []


def test_one_of_two_copies_is_broken(tmp_path: Path) -> None:
    second = 7 << 20
    for broken in (AREA, second):
        image = physical(
            tmp_path / "one", UUIDS[0], group(volume("a", segment(0, 1, ("pv0", 0)))), areas=(AREA, second)
        )
        with image.open("r+b") as file:
            os.pwrite(file.fileno(), b"x", broken + 600)
        with opened(image) as found:
            assert [each.name for each in found] == ["vg/a"]


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ("raid1", group(volume("a", segment(0, 1, ("pv0", 0), kind="raid1")))),
        ("thin", group(volume("a", segment(0, 1, ("pv0", 0)), segment(1, 1, ("pv0", 0), kind="thin")))),
        ("volume on another disk", group(volume("a", segment(0, 1, ("pv1", 0))))),
        ("volume in another", group(volume("a", segment(0, 1, ("a_mimage_0", 0))))),
        ("exported", group(volume("a", segment(0, 1, ("pv0", 0))), status='"EXPORTED"')),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, why: str, text: str) -> None:
    with opened(physical(tmp_path / "one", UUIDS[0], text)) as found:
        assert found == [lvm.Volume("vg/a", 0, None, why)]


def test_what_lvm_hides_is_hidden(tmp_path: Path) -> None:
    text = group(volume("a", segment(0, 1, ("pv0", 0))), volume("tmeta", segment(0, 1, ("pv0", 0)), status='"READ"'))
    with opened(physical(tmp_path / "one", UUIDS[0], text)) as found:
        assert [each.name for each in found] == ["vg/a"]


@pytest.mark.parametrize(
    "segments",
    [
        (segment(0, 8, ("pv0", 0)),),
        (segment(0, 1, ("pv0", 1 << 60)),),
        (segment(1, 1, ("pv0", 0)),),
        (segment(0, 2, ("pv0", 0)), segment(1, 1, ("pv0", 0))),
        (segment(0, 0, ("pv0", 0)),),
        (segment(0, 1, ("pv0", 0), ("pv0", 1), ("pv0", 2)),),
        (segment(0, 2, ("pv0", 0), ("pv0", 3), stripe=0),),
        (segment(0, 1).replace("stripe_count = 0", "stripe_count = 1"),),
        (segment(0, 1),),
        (),
        (segment(0, 1, ("pv0", 0)).replace("extent_count", "count"),),
        (segment(0, 1, ("pv0", 0)).replace("= 1", '= "1"'),),
    ],
)
def test_volumes_that_cannot_be(tmp_path: Path, segments: tuple[str, ...]) -> None:
    with (
        pytest.raises(CorruptImage, match="corrupt LVM2"),
        opened(physical(tmp_path / "one", UUIDS[0], group(volume("a", *segments)))),
    ):
        pass


@pytest.mark.parametrize(
    "text", ["", "a", "a =", "a = [1", 'a = "', "a {", "a { } }", "a = b", "a = 1", "{", "a = 0x1", "vg { } b { }"]
)
def test_text_that_is_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorruptImage, match="one: corrupt LVM2"), opened(physical(tmp_path / "one", UUIDS[0], text)):
        pass


def test_values() -> None:
    assert lvm.parse('a = 1 b = -2\nc = "x \\" # } y" # d = 4\ne = [] f = ["1", 2,3] g { h = "" }', "") == {
        "a": 1,
        "b": -2,
        "c": 'x " # } y',
        "e": [],
        "f": ["1", 2, 3],
        "g": {"h": ""},
    }


def test_limits(tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded, match="deep"):
        lvm.parse("a {" * 1000 + "}" * 1000, "")
    many = group(*(volume(f"v{number}", segment(0, 1, ("pv0", 0))) for number in range(257)))
    with pytest.raises(LimitExceeded, match="257 volumes"), opened(physical(tmp_path / "one", UUIDS[0], many)):
        pass
    few = physical(tmp_path / "one", UUIDS[0], None)
    with opened(*[few] * 32) as found:
        assert found == []
    with pytest.raises(LimitExceeded, match="33 physical"), opened(*[few] * 33):
        pass
    texts = (group(comment=name + "x" * 800_000) for name in "abc")
    several = [physical(tmp_path / f"long-{i}", UUIDS[0], text) for i, text in enumerate(texts)]
    with pytest.raises(LimitExceeded, match="all groups"), opened(*several):
        pass
    long = group(comment="x" * (1 << 20))
    with pytest.raises(LimitExceeded, match="metadata"), opened(physical(tmp_path / "one", UUIDS[0], long, 8 << 20)):
        pass


@pytest.mark.parametrize("at", [512, 512 + 20, AREA + 4, AREA + 600])
def test_checksums(tmp_path: Path, at: int) -> None:
    image = physical(tmp_path / "one", UUIDS[0], group(*VOLUMES))
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff", at)
    with pytest.raises(CorruptImage, match="one: corrupt LVM2"), opened(image):
        pass


def test_any_text_is_read_or_refused(tmp_path: Path) -> None:
    chance = random.Random(1)
    text = group(*VOLUMES)
    words = ["{", "}", "[", "]", "=", '"', "#", "-1", "0", str(2**62), "9" * 30, "segment1", "pv1", "\\", "\n"]
    for _ in range(400):
        mutated = text
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(mutated))
            mutated = mutated[:at] + chance.choice(words) + mutated[at + chance.randint(0, 20) :]
        # Anything else than what is for the person at the terminal is a fault of ours.
        with suppress(LarderError), opened(physical(tmp_path / "one", UUIDS[0], mutated)) as found:
            for each in found:
                if each.source is not None:
                    assert len(read(each.source, each.size - 10, 20)) == 10
