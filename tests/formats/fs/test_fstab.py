from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.formats.fs.fstab import Entry, parse


def test_every_field() -> None:
    text = b"UUID=0-1 / ext4 defaults,errors=remount-ro 0 1\n/dev/vda1\t/boot\tvfat\tumask=0077\n"
    assert parse(text) == [
        Entry("UUID=0-1", b"/", "ext4", {"defaults": "", "errors": "remount-ro"}),
        Entry("/dev/vda1", b"/boot", "vfat", {"umask": "0077"}),
    ]


def test_what_is_left_out_has_its_default() -> None:
    assert parse(b"/dev/vda1 /") == [Entry("/dev/vda1", b"/", "auto", {"defaults": ""})]
    assert parse(b"/dev/vda1 / xfs") == [Entry("/dev/vda1", b"/", "xfs", {"defaults": ""})]


@pytest.mark.parametrize("line", [b"", b"   ", b"# /dev/vda1 / ext4", b"#/dev/vda1 /", b"/dev/vda1", b"\t# x y"])
def test_lines_that_say_nothing(line: bytes) -> None:
    assert parse(line + b"\n" + line) == []


@pytest.mark.parametrize(
    ("field", "device"),
    [
        (b'LABEL="a b"', "LABEL=a b"),
        (b"LABEL=a\\040b", "LABEL=a b"),
        (b"LABEL=a\\134b", "LABEL=a\\b"),
        (b"LABEL=a\\b", "LABEL=a\\b"),
        (b"LABEL=\\400", "LABEL=\\400"),
        (b"LABEL=\xff", "LABEL=\udcff"),
        ('LABEL="größe"'.encode(), "LABEL=größe"),
    ],
)
def test_blanks_and_escapes(field: bytes, device: str) -> None:
    assert [entry.device for entry in parse(field + b" / ext4")] == [device]


def test_a_mount_point_is_bytes() -> None:
    (entry,) = parse(b"x /a\\011b\xff ext4")
    assert entry.mount_point == b"/a\tb\xff"


def test_the_last_of_two_options_counts() -> None:
    (entry,) = parse(b"x / btrfs subvol=a,subvol=b,subvolid=5,compress=zstd:1,x=1=2")
    assert entry.options == {"subvol": "b", "subvolid": "5", "compress": "zstd:1", "x": "1=2"}


@given(st.binary(max_size=200))
def test_any_text_is_read(text: bytes) -> None:
    for entry in parse(text):
        assert b"\n" not in entry.mount_point or b"\\012" in text
