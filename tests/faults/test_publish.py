"""What kills leave between two steps, in the parts that are to make it good."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from recipes.cache.store import Entry, Store
from recipes.export.clone import Wish, clone
from recipes.formats.disk.to_raw import to_raw
from recipes.formats.io.context import Context
from recipes.model import Digest
from recipes.sources.access import Access
from recipes.sources.download import Wanted, download
from tests.kit.project import sha256
from tests.kit.qcow2_images import build
from tests.kit.receipts import publish
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Killed(BaseException):
    """Stands for a kill: nothing cleans up after it."""


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return Store(tmp_path).entry_of("a", "x86_64")


def killed_before_the_receipt(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish something new, up to the rename of its receipt."""
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if str(target).endswith("raw.json"):
            raise Killed
        real(source, target)

    def attempt() -> None:
        with entry.hold() as held:
            publish(held, "new", b"new bytes")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            attempt()


def test_a_new_artifact_serves_before_its_receipt_has_its_name(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    with entry.hold() as held:
        publish(held, "old", b"old")
    killed_before_the_receipt(entry, monkeypatch)
    found = entry.current("raw", "new")
    assert found is not None
    assert entry.leftovers()
    with entry.hold():
        pass
    assert entry.current("raw", "new") == found
    assert not entry.leftovers()
    assert {path.name for path in entry.path.iterdir()} == {"disk.raw", "raw.json", ".lock"}


def test_a_receipt_that_has_no_name_yet_is_of_one_file_only(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file in its place is not vouched for, though size and time agree."""
    killed_before_the_receipt(entry, monkeypatch)
    raw = entry.artifact("raw")
    status = raw.stat()
    other = raw.with_name("other")
    other.write_bytes(b"other one")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(raw)
    assert entry.current("raw", "new") is None
    with entry.hold():
        assert entry.receipt("raw") is None


def test_a_receipt_without_an_artifact_goes(entry: Entry) -> None:
    with entry.hold() as held:
        publish(held, "k", b"bytes")
    entry.artifact("raw").unlink()
    with entry.hold():
        pass
    assert {path.name for path in entry.path.iterdir()} == {".lock"}


class TestADownloadThatWasAllThere:
    def get(self, part: Path, data: bytes) -> str:
        return download(
            ["file:///nonexistent/disk.img"],
            part,
            Access(offline=True),
            wanted=Wanted(Digest.parse(sha256(data)), len(data)),
            label="fetch:a",
        ).url

    def test_is_taken_as_it_is(self, tmp_path: Path) -> None:
        part = tmp_path / "wrapper.part"
        part.write_bytes(b"all of it")
        assert self.get(part, b"all of it") == "file:///nonexistent/disk.img"
        assert part.read_bytes() == b"all of it"

    def test_but_not_anything_else(self, tmp_path: Path) -> None:
        part = tmp_path / "wrapper.part"
        part.write_bytes(b"all of iT")
        with pytest.raises(Exception, match="nonexistent"):
            self.get(part, b"all of it")
        assert not part.exists()


class TestDraftsOfClones:
    def test_of_the_dead_go(self, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(b"x" * 512)
        for name in (".disk.larder-00000000", ".disk.base.raw.larder-00000000", ".other.larder-00000000", ".disk.mine"):
            (tmp_path / name).touch()
        clone(tmp_path / "source", tmp_path / "disk", Wish("raw"))
        assert {path.name for path in tmp_path.iterdir()} == {
            "source",
            "disk",
            ".other.larder-00000000",
            ".disk.mine",
        }

    def test_of_the_living_stay(self, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(b"x" * 512)
        (tmp_path / ".disk.larder-00000000").touch()
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            clone(tmp_path / "source", tmp_path / "disk", Wish("raw"))
        finally:
            os.close(descriptor)
        assert (tmp_path / ".disk.larder-00000000").exists()

    def test_of_one_that_began_while_another_swept_stay(self, tmp_path: Path) -> None:
        """Its share of the lock waits for the other's sweep, so a third one finds that the draft is somebody's."""
        (tmp_path / "vm").mkdir()
        (tmp_path / "source").write_bytes(b"x" * 512)
        sweeping = os.open(tmp_path / "vm", os.O_RDONLY)
        held = [sweeping]

        class Meanwhile(Watch):
            """The sweep ends once it is waited for; and once the draft is there, a third one sweeps."""

            @contextmanager
            def meter(self, label: str, total: int | None = None) -> Iterator[Watch]:
                if label.startswith("waiting"):
                    os.close(held.pop())
                yield self

            def advance(self, count: int) -> None:
                if count and not self.done:
                    self.done = count
                    (draft,) = (tmp_path / "vm").iterdir()
                    clone(tmp_path / "source", tmp_path / "vm" / "disk", wish)
                    assert draft.exists()

        wish, watch = Wish("raw", method="copy", force=True), Meanwhile()
        fcntl.flock(sweeping, fcntl.LOCK_EX)
        clone(tmp_path / "source", tmp_path / "vm" / "disk", wish, progress=watch)
        assert watch.done
        assert not held


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_little_space_is_told_before_a_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=free // 4096, f_frsize=4096))
    (tmp_path / "a").write_bytes(build(l2={0: 4 * 65536}, data=b"x" * 65536))
    watch = Watch()
    to_raw(tmp_path / "a", tmp_path / "raw", Context(watch, "raw:a", limit=1 << 40))
    assert len(watch.notes) == (free == 0)
    assert (tmp_path / "raw").stat().st_size == 1 << 20
