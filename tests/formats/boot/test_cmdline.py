"""The command line of a kernel."""

from __future__ import annotations

import pytest

from recipes.formats.boot import cmdline


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ("root=/dev/vda1 root=LABEL=x", "root", "LABEL=x"),
        ('root="LABEL=a b"', "root", "LABEL=a b"),
        ('"root=LABEL=a b" ro', "root", "LABEL=a b"),
        ("rd.lvm.lv=a/b root", "root", None),
        ("a-b=1", "a_b", "1"),
        ("quiet", "root", None),
        ('root="never closed', "root", "never closed"),
        ("", "root", None),
        ("x=", "x", ""),
    ],
)
def test_values(options: str, name: str, value: str | None) -> None:
    assert cmdline.value(options, name) == value
