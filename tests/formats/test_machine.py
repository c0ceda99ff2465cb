from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.formats import machine
from recipes.formats.io.context import Context
from tests.kit.oci_images import symlink, write_tar

if TYPE_CHECKING:
    from pathlib import Path

X86_64, AARCH64 = "usr/lib64/ld-linux-x86-64.so.2", "usr/lib/ld-linux-aarch64.so.1"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([X86_64], "x86_64"),
        ([AARCH64], "aarch64"),
        (["usr/lib/ld-musl-aarch64.so.1"], "aarch64"),
        # Programs of both run there, so none says which kernel does.
        ([X86_64, AARCH64], None),
        (["usr/bin/sh"], None),
    ],
)
def test_the_dynamic_linker_tells(files: list[str], found: str | None, tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "root.tar",
        {"etc/os-release": b"ID=x\n", **dict.fromkeys(files, b"")},
        symlink("lib", "usr/lib"),
        symlink("lib64", "usr/lib64"),
    )
    assert machine.of_file(path, Context(), "x86_64") == found


@pytest.mark.parametrize("data", [b"", b"no disk at all", bytes(1 << 20)])
def test_what_has_no_root_says_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(data)
    assert machine.of_file(tmp_path / "a.img", Context(), "x86_64") is None
