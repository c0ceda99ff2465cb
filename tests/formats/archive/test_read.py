from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.archive import zip as zip_read
from recipes.formats.archive.read import members
from recipes.formats.io.source import FileSource
from tests.kit.archives import SPARSE, content, gnu_tar, tar
from tests.kit.archives import members as of_bytes

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20


@pytest.mark.parametrize("how", SPARSE)
def test_holes_cost_nothing(how: str, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        for at in (3 * MiB, 7 * MiB + 4096, 31 * MiB):
            file.seek(at)
            file.write(b"%d" % at * 1000)
        file.truncate(64 * MiB)
    path = gnu_tar(tmp_path / "a.tar", how, raw)
    with path.open("rb") as file:
        (member,) = members(FileSource(file.fileno(), "a"), "tar", stored=path.stat().st_size)
        assert member.size == 64 * MiB
        data = sum(len(piece) for _, piece in member.chunks())
        assert data == 64 * MiB if how == "none" else data < MiB
        assert content(member) == raw.read_bytes()


def test_only_regular_files_are_members(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(b"x")
    (tmp_path / "link").symlink_to("disk.raw")
    os.link(tmp_path / "disk.raw", tmp_path / "name")
    os.mkfifo(tmp_path / "pipe")
    path = gnu_tar(
        tmp_path / "a.tar", "gnu", tmp_path / "disk.raw", tmp_path / "link", tmp_path / "name", tmp_path / "pipe"
    )
    with tarfile.open(path) as archive:
        assert len(archive.getnames()) == 4
    assert [each.name for each in of_bytes(path.read_bytes(), "tar")] == ["disk.raw"]


def test_more_files_than_an_archive_with_a_disk_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_read, "MAX_MEMBERS", 2)
    with pytest.raises(LimitExceeded, match="more than 2 files"):
        of_bytes(tar({"a": b"", "b": b"", "c": b""}), "tar")


def test_names_cost_what_the_archive_justifies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.formats.archive.read.metadata_limit", lambda stored: 2000)
    with pytest.raises(LimitExceeded, match="names and maps are larger"):
        of_bytes(tar({"a": b"", "b": b"", "c": b""}), "tar")
