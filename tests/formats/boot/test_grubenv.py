"""GRUB's environment block."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.formats.boot import grubenv
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

HEAD = b"# GRUB Environment Block\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + b"a=1\nb=x=y\n####", {"a": "1", "b": "x=y"}),
        (HEAD + b"# WARNING: a comment\na=1\n", {"a": "1"}),
        (HEAD + b"a=one\\\ntwo\nb=back\\\\slash\n", {"a": "one\ntwo", "b": "back\\slash"}),
        (b"a=1\n", {}),
        (b"", {}),
        (HEAD, {}),
    ],
)
def test_variables(text: bytes, expected: dict[str, str]) -> None:
    assert grubenv.parse(text) == expected


def test_what_grub_writes(tmp_path: Path) -> None:
    need("grub-editenv")
    path = tmp_path / "grubenv"
    subprocess.run(["grub-editenv", path, "create"], check=True)
    subprocess.run(["grub-editenv", path, "set", "saved_entry=a b\\c", "kernelopts=root=UUID=1 ro"], check=True)
    assert grubenv.parse(path.read_bytes()) == {"saved_entry": "a b\\c", "kernelopts": "root=UUID=1 ro"}
