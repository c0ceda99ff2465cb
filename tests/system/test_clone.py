"""Clones on real file systems, by what those say of their space, and of a real Debian, by booting them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.boot import boots
from tests.kit.debian import ROOT_OFFSET, GiB, run
from tests.kit.mounts import mounted
from tests.kit.oracles import need
from tests.kit.project import DOIT, MiB, Project
from tests.kit.upstream import allocated, pin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.debian import Debian

pytestmark = pytest.mark.system

KiB = 1 << 10
#: Bytes of data of the disk that is cloned.
DATA = 64 * MiB
MKFS = {
    "xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"),
    "btrfs": ("mkfs.btrfs", "-q"),
    "ext4": ("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
}


@contextmanager
def file_system(kind: str, folder: Path, size: int = 512 * MiB) -> Iterator[Path]:
    need(MKFS[kind][0])
    backing = folder / f"{kind}.img"
    with backing.open("wb") as file:
        file.truncate(size)
    run(*MKFS[kind], backing)
    try:
        with mounted(backing, "rw") as top:
            yield top
    finally:
        backing.unlink()


def used(folder: Path) -> int:
    """Return the bytes that are taken on the file system of `folder`."""
    os.sync()
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def ready(project: Project) -> None:
    """Declare a disk of 10 GiB, mostly holes, as `a`, and derive it."""
    need("qemu-img")
    disk, image = project.folder / "disk", project.upstream / "a.qcow2"
    with disk.open("wb") as file:
        for at in range(0, DATA, MiB):
            file.seek(at * 10)
            file.write(os.urandom(MiB))
        file.truncate(10 * GiB)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, image)
    disk.unlink()
    pin(project, "a", project.upstream.as_uri(), image)
    project.ok("raw:a")


def clone(project: Project, paths: list[Path], *options: str) -> None:
    project.ok("clone:a", *options, *(word for path in paths for word in ("--to", str(path))))


def row(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.ok("status", "--json"))["artifacts"][0]
    return found


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "ext4"])
def test_twenty_clones(kind: str, tmp_path: Path) -> None:
    with file_system(kind, tmp_path) as top:
        (tmp_path / "project").mkdir()
        project = Project(tmp_path / "project")
        project.environ["LARDER_CACHE"] = str(top / "cache")
        project.cache = top / "cache"
        ready(project)
        vm = top / "vm"
        vm.mkdir()
        shares = kind != "ext4"

        before = used(top)
        clone(project, [vm / f"overlay-{number}" for number in range(20)], "--format", "qcow2")
        assert used(top) - before < 20 * 200 * KiB
        assert row(project)["shared"] == row(project)["allocated"]
        for number in range(0, 20, 10):
            run("qemu-img", "check", "-q", vm / f"overlay-{number}")

        before = used(top)
        count = 20 if shares else 2
        clone(project, [vm / f"disk-{number}" for number in range(count)], "--size", "12G")
        taken = used(top) - before
        assert taken < MiB if shares else DATA * count <= taken < DATA * count + MiB
        found = row(project)
        disks = [each for each in found["clones"] if each["format"] == "raw"]
        assert [each["method"] for each in disks] == [("reflink" if shares else "copy")] * count
        assert all(DATA <= each["saved"] <= found["allocated"] if shares else each["saved"] == 0 for each in disks)

        # What is written to one is its own.
        with (vm / "disk-0").open("r+b") as file:
            file.write(b"x" * 8 * MiB)
            os.fsync(file.fileno())
        run("cmp", "-n", str(12 * MiB), project.entry("a") / "disk.raw", vm / "disk-1")
        if shares:
            written = next(each for each in row(project)["clones"] if each["path"] == f"{vm}/disk-0")
            # The first of the eight was data, seven were holes.
            assert DATA - MiB <= written["saved"] < DATA
        project.ok("verify")


def test_what_is_not_to_be_had(tmp_path: Path) -> None:
    """Between file systems, and where there are no reflinks."""
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    ready(project)
    with file_system("ext4", tmp_path, 48 * MiB) as top:
        for mode, form, why in (
            ("reflink", "raw", "they are on different file systems"),
            ("hardlink", "qcow2", "they are on different file systems"),
            ("auto", "raw", "No space left on device"),
            ("auto", "qcow2", "No space left on device"),
        ):
            result = project.doit("clone:a", "--to", str(top / "disk"), "--mode", mode, "--format", form)
            assert result.status == 1
            assert why in result.out
            assert {path.name for path in top.iterdir()} == {"lost+found"}


def test_killed_in_the_middle_of_a_copy(project: Project, tmp_path: Path) -> None:
    ready(project)
    vm = tmp_path / "vm"
    vm.mkdir()
    words = ("clone:a", "--mode", "copy", "--to", str(vm / "disk"))
    # 64 MiB are copied faster than a busy machine looks twice.
    project.hook(
        "import time\nfrom recipes.formats.io.sparse import SparseFile\nwrite = SparseFile.pwrite\n"
        "SparseFile.pwrite = lambda *words: (time.sleep(0.02), write(*words))"
    )
    process = subprocess.Popen([DOIT, *words], cwd=project.folder, env=project.environ, stdout=subprocess.DEVNULL)
    with process:
        while process.poll() is None:
            if any(allocated(path) > 8 * MiB for path in vm.iterdir()):
                process.kill()
                break
            time.sleep(0.001)
    assert process.returncode == -9, "the copy was over before it was seen to grow"
    assert not (vm / "disk").exists()
    del project.environ["PYTHONPATH"]
    project.ok(*words)
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", vm / "disk", project.entry("a") / "disk.raw")


def test_instances_boot_and_outlive_the_cache(image: Debian, qcow2: Path, project: Project, tmp_path: Path) -> None:
    need("qemu-system-x86_64", "qemu-img", "debugfs", "e2fsck")
    pin(project, "debian", qcow2.parent.as_uri(), qcow2)
    vm = tmp_path / "vm"
    vm.mkdir()
    clones = {vm / "one": "qcow2", vm / "two": "qcow2", vm / "raw": "raw"}
    for path, form in clones.items():
        project.ok("clone:debian", "--to", str(path), "--format", form, "--size", "3G")

    boots(image, f"format=qcow2,file={vm / 'one'}", "/dev/vda1", "echo first >/written")
    project.ok("clean", "raw:debian")
    assert not (project.entry("debian") / "disk.raw").exists()
    boots(image, f"format=qcow2,file={vm / 'one'}", "/dev/vda1", "grep first /written && echo one >>/written")
    for name, form in (("two", "qcow2"), ("raw", "raw")):
        boots(image, f"format={form},file={vm / name}", "/dev/vda1", f"! test -e /written && echo {name} >/written")

    written = {}
    for path, form in clones.items():
        flat = path
        if form == "qcow2":
            run("qemu-img", "check", "-q", path)
            run("cmp", image.raw, vm / f"{path.name}.base.raw")
            flat = vm / f"{path.name}.flat"
            run("qemu-img", "convert", "-O", "raw", path, flat)
        assert flat.stat().st_size == 3 * GiB
        # Power went off without an unmount: e2fsck replays the journal first.
        subprocess.run(["e2fsck", "-fp", f"{flat}?offset={ROOT_OFFSET}"], stdout=subprocess.DEVNULL, check=False)
        run("e2fsck", "-fn", f"{flat}?offset={ROOT_OFFSET}")
        cat = ["debugfs", "-R", "cat /written", f"{flat}?offset={ROOT_OFFSET}"]
        written[path.name] = subprocess.run(cat, capture_output=True, text=True, check=True).stdout
    assert written == {"one": "first\none\n", "two": "two\n", "raw": "raw\n"}
