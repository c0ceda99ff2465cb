from __future__ import annotations

import os
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.tree import posix_acl
from tests.kit.oracles import lack, need

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 0xFFFFFFFF


def xattr(*entries: tuple[int, int, int], version: int = 2) -> bytes:
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


MINIMAL = xattr((1, 6, NOBODY), (4, 4, NOBODY), (0x20, 0, NOBODY))
NAMED = xattr((1, 7, NOBODY), (2, 6, 0), (2, 4, 1001), (4, 5, NOBODY), (8, 5, 4), (0x10, 7, NOBODY), (0x20, 1, NOBODY))
NAMED_TEXT = "user::rwx,user:root:rw-:0,user:lisa:r--:1001,group::r-x,group:adm:r-x:4,mask::rwx,other::--x"


class TestExt4:
    def test_ids_that_mean_nothing_are_left_out(self) -> None:
        assert posix_acl.to_ext4(MINIMAL) == struct.pack("<I6H", 1, 1, 6, 4, 4, 0x20, 0)

    def test_named_entries_keep_theirs(self) -> None:
        assert posix_acl.to_ext4(xattr((1, 7, 0), (2, 6, 1001), (4, 0, 0), (16, 6, 0), (32, 0, 0))) == struct.pack(
            "<IHHHHIHHHHHH", 1, 1, 7, 2, 6, 1001, 4, 0, 16, 6, 32, 0
        )

    @pytest.mark.parametrize("value", [MINIMAL, NAMED])
    def test_round_trip(self, value: bytes) -> None:
        assert posix_acl.from_ext4(posix_acl.to_ext4(value)) == value

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\1\0",
            struct.pack("<I", 1),
            struct.pack("<I6H", 2, 1, 6, 4, 4, 0x20, 0),
            struct.pack("<I5H", 1, 1, 6, 4, 4, 0x20),
            struct.pack("<I6H", 1, 1, 6, 4, 4, 0x21, 0),
            struct.pack("<I4HH", 1, 1, 6, 2, 4, 0),
        ],
    )
    def test_what_cannot_be_is_refused(self, value: bytes) -> None:
        with pytest.raises(CorruptImage, match="access control list"):
            posix_acl.from_ext4(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        xattr(),
        xattr((1, 6, NOBODY), (4, 4, NOBODY), (0x20, 0, NOBODY), version=1),
        MINIMAL + b"\0",
        xattr((1, 6, NOBODY), (4, 4, NOBODY)),
        xattr((4, 6, NOBODY), (1, 4, NOBODY), (0x20, 0, NOBODY)),
        xattr((1, 6, NOBODY), (1, 6, NOBODY), (4, 4, NOBODY), (0x20, 0, NOBODY)),
        xattr((1, 8, NOBODY), (4, 4, NOBODY), (0x20, 0, NOBODY)),
        xattr((1, 6, NOBODY), (2, 6, 7), (4, 4, NOBODY), (0x20, 0, NOBODY)),
        xattr((1, 6, NOBODY), (2, 6, NOBODY), (4, 4, NOBODY), (0x10, 4, NOBODY), (0x20, 0, NOBODY)),
        xattr((1, 6, NOBODY), (4, 4, NOBODY), (0x20, 0, NOBODY), (0x40, 0, NOBODY)),
    ],
)
def test_what_the_kernel_would_not_take_is_refused(value: bytes) -> None:
    with pytest.raises(CorruptImage, match="access control list"):
        posix_acl.check(value)
    with pytest.raises(CorruptImage, match="access control list"):
        posix_acl.to_ext4(value)


@pytest.mark.parametrize(("value", "expected"), [(MINIMAL, (0o640, True)), (NAMED, (0o771, False))])
def test_equivalent_mode(value: bytes, expected: tuple[int, bool]) -> None:
    assert posix_acl.equivalent_mode(value) == expected


class TestText:
    def test_minimal(self) -> None:
        assert posix_acl.from_text("user::rw-,group::r--,other::---") == MINIMAL

    def test_numbers_in_the_fourth_field(self) -> None:
        assert posix_acl.from_text(NAMED_TEXT) == NAMED

    @pytest.mark.parametrize("value", [MINIMAL, NAMED])
    def test_round_trip(self, value: bytes) -> None:
        assert posix_acl.from_text(posix_acl.to_text(value)) == value

    def test_numbers_stand_for_names(self) -> None:
        assert posix_acl.to_text(NAMED) == (
            "user::rwx,user:0:rw-,user:1001:r--,group::r-x,group:4:r-x,mask::rwx,other::--x"
        )

    @pytest.mark.parametrize(
        "text",
        [
            NAMED_TEXT.replace(",", "\n") + "\n",
            NAMED_TEXT.replace("user:lisa:r--:1001", "user:1001:r--").replace(",", " \t#effective:r--\n"),
            ",".join(reversed(NAMED_TEXT.split(","))),
            NAMED_TEXT.replace("user", "u").replace("group", "g").replace("mask::", "m:").replace("other::", "o:"),
        ],
        ids=["lines", "numbers and comments", "any order", "abbreviated"],
    )
    def test_other_ways_to_say_it(self, text: str) -> None:
        assert posix_acl.from_text(text) == NAMED

    def test_a_name_alone_is_refused(self) -> None:
        with pytest.raises(UnsupportedFeature, match=r"'user:lisa:r--' without a number"):
            posix_acl.from_text("user::rw-,user:lisa:r--,group::r--,mask::r--,other::---")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nonsense",
            "user::rw-",
            "user::rw,group::r--,other::---",
            "user::wr-,group::r--,other::---",
            "user::rw-,group::r--,other:lisa:---:1",
            "user::rw-,group::r--,mask::r--:1:2,other::---",
            "everyone@:r-x:allow",
            "user::rw-,user:lisa:r--:99999999999,group::r--,mask::r--,other::---",
            "user::rw-,user:lisa:r--:4294967295,group::r--,mask::r--,other::---",
        ],
    )
    def test_what_is_no_list_is_refused(self, text: str) -> None:
        with pytest.raises((CorruptImage, UnsupportedFeature), match="access control list"):
            posix_acl.from_text(text)


def test_the_kernel_agrees(tmp_path: Path) -> None:
    need("setfacl", "getfacl")
    file = tmp_path / "file"
    file.touch()
    done = subprocess.run(["setfacl", "-m", "u::rwx,u:0:rw,u:1001:r,g::rx,g:4:rx,m::rwx,o::x", file], check=False)
    if done.returncode:
        lack("the file system has no access control lists")
    assert os.getxattr(file, posix_acl.ACCESS) == NAMED
    text = subprocess.run(["getfacl", "-cEn", file], check=True, capture_output=True, text=True).stdout
    assert posix_acl.from_text(text) == NAMED
