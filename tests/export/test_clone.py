from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import Interrupted, LarderError, NoSpace, StoreError
from recipes.export import clone as module
from recipes.export.clone import Wish, base_of, clone, format_of, formats, require
from recipes.formats.io import sparse
from recipes.formats.io.context import Context
from recipes.formats.microvm import write_ext4
from recipes.formats.tree.tree import Node, Tree
from recipes.kinds import DERIVABLE
from recipes.progress import SILENT_METER
from tests.kit.debian import run
from tests.kit.locks import held
from tests.kit.oracles import need
from tests.kit.project import MiB, disk

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.progress import Meter


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """An artifact as the cache has it: sparse, and read only."""
    path = tmp_path / "cache" / "disk.raw"
    path.parent.mkdir()
    with sparse.SparseFile(path) as file:
        file.write(disk("raw", 8 * MiB))
        file.finish(8 * MiB)
    path.chmod(0o444)
    os.utime(path, (10**9, 10**9))
    return path


@pytest.fixture
def vm(tmp_path: Path) -> Path:
    (tmp_path / "vm").mkdir()
    return tmp_path / "vm"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def unchanged(raw: Path) -> bool:
    return raw.read_bytes() == disk("raw", 8 * MiB) and raw.stat().st_mtime == 10**9 and raw.stat().st_mode & 0o222 == 0


class TestWish:
    def test_formats_of_each_kind_of_image(self) -> None:
        assert formats("disk")[:2] == ("raw", "qcow2")
        assert set(formats("disk")) == {"compressed-qcow2", *DERIVABLE["disk"]}
        assert formats("rootfs")[0] == "rootfs"
        assert not {"raw", "qcow2"} & set(formats("rootfs"))
        assert len(set(formats("rootfs"))) == len(formats("rootfs"))

    @pytest.mark.parametrize(
        ("wish", "message"),
        [
            ({"format": "rootfs", "size": 4096}, "--size is for the disks"),
            ({"format": "raw", "size": 1000}, "whole sectors"),
            ({"format": "raw", "method": "hardlink"}, "writes to its raw"),
            ({"format": "vhdx", "method": "hardlink"}, "writes to its vhdx"),
            ({"format": "ext4", "method": "hardlink"}, "writes to its ext4"),
        ],
    )
    def test_what_cannot_be(self, wish: dict[str, Any], message: str) -> None:
        with pytest.raises(StoreError, match=message):
            Wish(**wish)


class TestFile:
    def test_an_independent_file_that_its_owner_may_write(self, raw: Path, vm: Path) -> None:
        made = clone(raw, vm / "disk", Wish("raw"))
        assert made.method in ("reflink", "copy")
        assert (vm / "disk").read_bytes() == raw.read_bytes()
        assert sparse.allocated(vm / "disk") <= sparse.allocated(raw)
        assert made.written == (sparse.allocated(vm / "disk") if made.method == "copy" else 0)
        status = (vm / "disk").stat()
        assert stat.S_IMODE(status.st_mode) & 0o600 == 0o600
        assert status.st_mtime > 10**9
        with (vm / "disk").open("r+b") as file:
            file.write(b"changed")
        assert unchanged(raw)
        assert names(vm) == {"disk"}

    def test_larger(self, raw: Path, vm: Path) -> None:
        made = clone(raw, vm / "disk", Wish("raw", size=1 << 30))
        assert made.size == (vm / "disk").stat().st_size == 1 << 30
        assert sparse.allocated(vm / "disk") <= sparse.allocated(raw)

    def test_smaller(self, raw: Path, vm: Path) -> None:
        with pytest.raises(StoreError, match=r"1\.0 MiB \(1048576 bytes\) is too small: disk\.raw has 8\.0 MiB"):
            clone(raw, vm / "disk", Wish("raw", size=MiB))
        assert names(vm) == set()

    def test_a_hard_link_of_what_nobody_writes_to(self, raw: Path, vm: Path) -> None:
        made = clone(raw, vm / "image", Wish("fetch", method="hardlink"))
        assert (made.method, made.written) == ("hardlink", 0)
        assert (vm / "image").samefile(raw)
        assert unchanged(raw)

    def test_a_name_that_is_taken(self, raw: Path, vm: Path) -> None:
        (vm / "disk").write_bytes(b"precious")
        with pytest.raises(StoreError, match="exists already"):
            clone(raw, vm / "disk", Wish("raw"))
        assert (vm / "disk").read_bytes() == b"precious"
        clone(raw, vm / "disk", Wish("raw", force=True))
        assert (vm / "disk").read_bytes() == raw.read_bytes()
        assert names(vm) == {"disk"}

    def test_a_name_that_is_taken_meanwhile(self, raw: Path, vm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def taking(*words: Any, **more: Any) -> None:
            (vm / "disk").write_bytes(b"precious")
            copy(*words, **more)

        copy = sparse.copy
        monkeypatch.setattr(sparse, "copy", taking)
        with pytest.raises(StoreError, match=r"vm/disk exists already"):
            clone(raw, vm / "disk", Wish("raw", method="copy"))
        assert (vm / "disk").read_bytes() == b"precious"
        assert names(vm) == {"disk"}

    def test_without_hard_links(self, raw: Path, vm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
        clone(raw, vm / "disk", Wish("raw"))
        assert clone(raw, vm / "overlay", Wish("qcow2")).method != "hardlink"
        assert names(vm) == {"disk", "overlay", "overlay.base.raw"}
        with pytest.raises(StoreError, match=r"no hardlink of .* can be made in .*: the file system has none"):
            clone(raw, vm / "other", Wish("qcow2", method="hardlink"))
        assert names(vm) == {"disk", "overlay", "overlay.base.raw"}

    def test_no_reflink(self, raw: Path, vm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sparse, "reflink", lambda *_, **__: False)
        with pytest.raises(StoreError, match=r"no reflink of .*: the file system cannot share extents"):
            clone(raw, vm / "disk", Wish("raw", method="reflink"))
        assert names(vm) == set()

    def test_the_artifact_is_gone(self, raw: Path, vm: Path) -> None:
        with pytest.raises(StoreError, match=r"disk\.raw: No such file"):
            clone(raw.with_name("other") / "disk.raw", vm / "disk", Wish("raw"))

    def test_told_to_stop(self, raw: Path, vm: Path) -> None:
        class Stopped:
            def advance(self, count: int) -> None:
                raise Interrupted("stopped")

            def expect(self, total: int | None) -> None: ...

            def note(self, message: str) -> None: ...

            @contextmanager
            def meter(self, label: str, total: int | None = None) -> Iterator[Stopped]:
                yield self

        for form in ("raw", "qcow2"):
            with pytest.raises(Interrupted):
                clone(raw, vm / "disk", Wish(form, method="copy"), progress=Stopped())
        assert names(vm) == set()


class TestOverlay:
    def test_stands_on_its_own_name_of_the_raw(self, raw: Path, vm: Path) -> None:
        made = clone(raw, vm / "disk", Wish("qcow2", size=1 << 30))
        base = vm / "disk.base.raw"
        assert (made.method, made.base) == ("hardlink", base)
        assert base.samefile(raw)
        assert made.written == sparse.allocated(vm / "disk") < 200 * 1024
        assert names(vm) == {"disk", "disk.base.raw"}
        raw.unlink()
        assert base.read_bytes() == disk("raw", 8 * MiB)

    def test_on_a_copy(self, raw: Path, vm: Path) -> None:
        made = clone(raw, vm / "disk", Wish("qcow2", method="copy"))
        base = vm / "disk.base.raw"
        assert made.written == sparse.allocated(base) + sparse.allocated(vm / "disk")
        assert not base.samefile(raw)
        assert base.stat().st_mode & 0o222 == 0
        assert base.read_bytes() == raw.read_bytes()

    def test_force_replaces_both(self, raw: Path, vm: Path) -> None:
        clone(raw, vm / "disk", Wish("qcow2"))
        with pytest.raises(StoreError, match="exists already"):
            clone(raw, vm / "disk", Wish("qcow2"))
        other = raw.with_name("other.raw")
        other.write_bytes(disk("other", 4 * MiB))
        clone(other, vm / "disk", Wish("qcow2", force=True))
        assert (vm / "disk.base.raw").samefile(other)
        # A second name of the same file: rename(2) does nothing.
        clone(other, vm / "disk", Wish("qcow2", force=True))
        assert names(vm) == {"disk", "disk.base.raw"}
        assert unchanged(raw)

    @pytest.mark.parametrize("step", range(3))
    def test_never_on_another_base(self, raw: Path, vm: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        """A stop before any of the three changes leaves the old clone, or no overlay."""
        clone(raw, vm / "disk", Wish("qcow2"))
        before = (vm / "disk").stat().st_ino
        other = raw.with_name("other.raw")
        other.write_bytes(disk("other", 4 * MiB))
        left = iter(range(3))

        from pathlib import Path as RealPath

        publish, unlink = module._publish, RealPath.unlink

        def counted_publish(*words: Any, **more: Any) -> None:
            if next(left) == step:
                raise KeyboardInterrupt
            publish(*words, **more)

        def counted_unlink(path: Path, missing_ok: bool = False) -> None:
            if path == vm / "disk" and next(left) == step:
                raise KeyboardInterrupt
            unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(module, "_publish", counted_publish)
        monkeypatch.setattr(RealPath, "unlink", counted_unlink)
        with pytest.raises(KeyboardInterrupt):
            clone(other, vm / "disk", Wish("qcow2", force=True))
        monkeypatch.undo()
        if (vm / "disk").exists():
            assert (vm / "disk").stat().st_ino == before
            assert (vm / "disk.base.raw").samefile(raw)
        assert not [name for name in names(vm) if name.startswith(".")]

    @pytest.mark.parametrize("force", [False, True])
    def test_interrupted_when_it_is_there(
        self, raw: Path, vm: Path, monkeypatch: pytest.MonkeyPatch, force: bool
    ) -> None:
        publish = module._publish

        def interrupted(draft: Path, path: Path, *, force: bool) -> None:
            publish(draft, path, force=force)
            if path == vm / "disk":
                raise KeyboardInterrupt

        monkeypatch.setattr(module, "_publish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            clone(raw, vm / "disk", Wish("qcow2", force=force))
        assert names(vm) == {"disk", "disk.base.raw"}

    def test_a_base_that_is_in_the_way(self, raw: Path, vm: Path) -> None:
        base_of(vm / "disk").write_bytes(b"precious")
        with pytest.raises(StoreError, match=r"disk\.base\.raw exists already"):
            clone(raw, vm / "disk", Wish("qcow2"))
        assert names(vm) == {"disk.base.raw"}
        assert base_of(vm / "disk").read_bytes() == b"precious"

    def test_no_room_for_the_overlay(self, raw: Path, vm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("recipes.formats.disk.qcow2.overlay.write_overlay", full)
        with pytest.raises(NoSpace, match="No space left"):
            clone(raw, vm / "disk", Wish("qcow2"))
        assert names(vm) == set()

    def test_a_size_that_qcow2_does_not_have(self, raw: Path, vm: Path) -> None:
        with pytest.raises(LarderError, match="at most"):
            clone(raw, vm / "disk", Wish("qcow2", size=3 << 50))
        assert names(vm) == set()


class TestRequire:
    def test_a_folder(self, vm: Path, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="found a folder"):
            require(vm, Wish("raw"), cache=tmp_path / "cache")

    def test_a_folder_that_is_missing_is_made(self, raw: Path, vm: Path, tmp_path: Path) -> None:
        path = vm / "1" / "2" / "disk"
        require(path, Wish("raw"), cache=tmp_path / "cache")
        assert names(vm) == set(), "nothing is made before there is something to clone"
        clone(raw, path, Wish("raw"))
        assert path.read_bytes() == raw.read_bytes()

    def test_a_file_to_be_in(self, raw: Path, vm: Path, tmp_path: Path) -> None:
        (vm / "1").write_bytes(b"")
        with pytest.raises(StoreError, match="vm/1/disk: Not a directory"):
            require(vm / "1" / "disk", Wish("raw"), cache=tmp_path / "cache")
        with pytest.raises(StoreError, match="vm/1/disk: Not a directory"):
            clone(raw, vm / "1" / "disk", Wish("raw"))

    def test_what_is_no_file(self, vm: Path, tmp_path: Path) -> None:
        os.mkfifo(vm / "pipe")
        with pytest.raises(StoreError, match="neither"):
            require(vm / "pipe", Wish("raw", force=True), cache=tmp_path / "cache")

    def test_the_cache(self, vm: Path, raw: Path) -> None:
        (vm / "link").symlink_to(raw.parent)
        for folder in (raw.parent, vm / "link"):
            with pytest.raises(StoreError, match="is in the cache"):
                require(folder / "disk", Wish("raw"), cache=raw.parent)

    def test_a_base_that_is_in_the_way(self, vm: Path, tmp_path: Path) -> None:
        base_of(vm / "disk").touch()
        require(vm / "disk", Wish("raw"), cache=tmp_path / "cache")
        with pytest.raises(StoreError, match=r"disk\.base\.raw exists"):
            require(vm / "disk", Wish("qcow2"), cache=tmp_path / "cache")


class TestFileSystem:
    @pytest.fixture
    def bare(self, tmp_path: Path) -> Path:
        tree = Tree()
        tree.add(b"etc", Node(stat.S_IFDIR | 0o755))
        path = tmp_path / "root.ext4"
        write_ext4(tree, path, Context(durable=False), size=64 << 20, label="a", journal=True)
        return path

    def test_is_shared_as_it_is(self, bare: Path, tmp_path: Path) -> None:
        made = clone(bare, tmp_path / "clone", Wish("ext4"))
        assert made.path.read_bytes() == bare.read_bytes()
        assert made.size == 64 << 20

    def test_grows_with_the_file(self, bare: Path, tmp_path: Path) -> None:
        need("e2fsck")
        made = clone(bare, tmp_path / "clone", Wish("ext4", size=1 << 30))
        assert made.path.stat().st_size == made.size == 1 << 30
        assert made.method == "copy"
        run("e2fsck", "-fn", made.path)
        expected = tmp_path / "expected"
        tree = Tree()
        tree.add(b"etc", Node(stat.S_IFDIR | 0o755))
        write_ext4(tree, expected, Context(durable=False), size=1 << 30, label="a", journal=True)
        assert made.path.read_bytes() == expected.read_bytes()

    def test_does_not_grow_by_sharing(self, bare: Path, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="written anew"):
            clone(bare, tmp_path / "clone", Wish("ext4", size=1 << 30, method="reflink"))
        assert not (tmp_path / "clone").exists()

    def test_does_not_shrink(self, bare: Path, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="too small"):
            clone(bare, tmp_path / "clone", Wish("ext4", size=32 << 20))


class TestTheSuffix:
    DISK = formats("disk")

    @pytest.mark.parametrize(
        ("path", "form"),
        [
            ("vm/disk", None),
            ("vm/disk.img", None),
            ("vm.2/disk", None),
            ("vm/disk.raw", "raw"),
            ("vm/disk.QCOW2", "qcow2"),
            ("disk.vhd", "vhd"),
            ("root.ext4", "ext4"),
            ("disk.vmdk", "vmdk"),
        ],
    )
    def test_says_the_format(self, path: str, form: str | None) -> None:
        assert format_of(path, self.DISK) == form

    @pytest.mark.parametrize(("path", "forms"), [("root.tar", "rootfs and oci"), ("ext4.vhdx", "hyperv and vhdx")])
    def test_of_several_formats_says_nothing(self, path: str, forms: str) -> None:
        with pytest.raises(StoreError, match=forms) as caught:
            format_of(path, self.DISK)
        assert "--format" in (caught.value.hint or "")

    def test_of_a_container_image_there_is_one_less(self) -> None:
        assert format_of("ext4.vhdx", formats("oci")) == "vhdx"

    def test_of_a_format_that_there_is_not_is_refused(self) -> None:
        with pytest.raises(StoreError, match=r"no format for \.vdi, but raw, qcow2"):
            format_of("disk.vdi", self.DISK)


class TestTheKindOfAnOverlaysName:
    def test_is_cloned_by_a_name_of_its_own(self, raw: Path, tmp_path: Path) -> None:
        assert Wish("qcow2").kind == "raw"
        assert Wish("compressed-qcow2").kind == "qcow2"
        assert {"qcow2", "compressed-qcow2"} <= set(formats("disk"))
        assert not {"qcow2", "compressed-qcow2"} & set(formats("rootfs"))
        made = clone(raw, tmp_path / "disk.qcow2", Wish("compressed-qcow2"))
        assert made.base is None
        assert made.path.read_bytes() == raw.read_bytes()

    def test_is_written_to_so_it_is_no_hard_link(self) -> None:
        assert Wish("qcow2", method="hardlink").ways == ("hardlink",)
        assert Wish("vmdk", method="hardlink").ways == ("hardlink",)
        with pytest.raises(StoreError, match="an instance writes to its compressed-qcow2"):
            Wish("compressed-qcow2", method="hardlink")
        with pytest.raises(StoreError, match="not for compressed-qcow2"):
            Wish("compressed-qcow2", size=1 << 30)


class _Waits:
    """A progress that ends what it waits for."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.labels: list[str] = []

    def note(self, message: str) -> None:
        self.labels.append(message)

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        self.labels.append(label)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        yield SILENT_METER


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/locks")
def test_it_is_said_for_whom_a_clone_waits(raw: Path, vm: Path) -> None:
    with held(vm) as process:
        progress = _Waits(process)
        clone(raw, vm / "disk", Wish("raw"), progress=progress)
    assert progress.labels[0].startswith((f"waiting for process {process.pid} (-c ", "waiting for another process"))
    assert progress.labels[0].endswith(f"with {vm}")
