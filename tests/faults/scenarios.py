"""The commands that are killed."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

from tests.kit import archives, qcow2_images
from tests.kit.disks import damage
from tests.kit.project import disk

from .kills import Scenario

if TYPE_CHECKING:
    from .kills import Bench

MiB = 1 << 20
CLUSTER = 1 << 16


def packed(seed: str) -> bytes:
    return gzip.compress(disk(seed), mtime=0)


def qcow2(seed: str) -> bytes:
    """Return a QCOW2 of 1 MiB with some data."""
    data = hashlib.shake_256(seed.encode()).digest(CLUSTER)
    return qcow2_images.build(l2={3: 4 * CLUSTER | qcow2_images.COPIED}, data=data)


def tarball() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in (("etc/os-release", b"ID=test\n"), ("bin/sh", hashlib.shake_256(b"sh").digest(MiB))):
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode, member.mtime = len(data), 0o755, 1_700_000_000
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(target.getvalue(), mtime=0)


def _first(bench: Bench) -> None:
    bench.declare("a", packed("one"), "a.raw.gz")


def _update(bench: Bench) -> None:
    bench.declare("a", packed("one"), "a.raw.gz", derive=["raw", "fetch"])
    bench.run("raw:a", "fetch:a")
    bench.declare("a", packed("two"), "a.raw.gz", derive=["raw", "fetch"])


def _qcow2(bench: Bench) -> None:
    bench.declare("a", qcow2("one"), "a.qcow2", derive=["raw", "fetch"])


def _disks(bench: Bench) -> None:
    bench.declare("a", packed("one"), "a.raw.gz", derive=["qcow2", "vmdk", "vhd", "hyperv"])


def _archive(bench: Bench) -> None:
    bench.declare(
        "a", gzip.compress(archives.tar({"disk.raw": disk("one"), "x": b"x"}), mtime=0), "a.box", derive=["raw"]
    )


def _rootfs(bench: Bench) -> None:
    bench.declare("a", tarball(), "a.tar.gz", **{"vhdx-size": "64MiB"})


def _several(bench: Bench) -> None:
    for name in "abc":
        bench.declare(name, packed(name), f"{name}.raw.gz")


def _cloned(bench: Bench) -> None:
    bench.declare("a", qcow2("one"), "a.qcow2")
    bench.run("clone:a", "--to", "{vm}/a.qcow2", "--format", "qcow2", "--to", "{vm}/never")
    bench.run("clone:a", "--to", "{vm}/disk")


def _lima(bench: Bench) -> None:
    bench.declare("a", qcow2("one"), "a.qcow2")
    bench.run("raw:a")


def _prunable(bench: Bench) -> None:
    for name in "abc":
        bench.declare(name, packed(name), f"{name}.raw.gz", derive=["raw", "fetch"])
    bench.run("raw:a", "raw:b", "raw:c", "content:c")
    del bench.project.declared["b"]
    bench.project.declared["c"]["derive"] = ["fetch"]
    bench.project.write()
    (bench.project.entry("c") / "content.asked").unlink()
    (bench.project.entry("c") / "raw.asked").unlink()
    (bench.project.entry("c") / ".tmp-raw-00000000").write_bytes(b"left")


def _damaged(bench: Bench) -> None:
    bench.declare("a", packed("one"), "a.raw.gz", derive=["raw", "fetch"])
    bench.run("raw:a", "fetch:a")
    damage(bench.project.entry("a") / "disk.raw")


SCENARIOS = (
    Scenario("first", _first, ("raw:a",)),
    Scenario("update", _update, ("raw:a", "fetch:a"), serves="raw"),
    Scenario("qcow2", _qcow2, ("raw:a", "fetch:a")),
    Scenario("archive", _archive, ("raw:a", "content:a"), kinds=("fetch", "content", "raw")),
    Scenario("containers", _rootfs, ("vhdx:a", "oci:a"), kinds=("fetch", "content", "rootfs", "vhdx", "oci")),
    Scenario(
        "disks",
        _disks,
        ("qcow2:a", "vmdk:a", "vhd:a", "hyperv:a"),
        kinds=("fetch", "content", "raw", "qcow2", "vmdk", "vhd", "hyperv"),
    ),
    Scenario("several", _several, ("raw",)),
    Scenario("clone", _cloned, ("clone:a", "--to", "{vm}/disk", "--force", "--mode", "copy"), serves="raw"),
    Scenario("overlay", _cloned, ("clone:a", "--to", "{vm}/a.qcow2", "--force", "--format", "qcow2"), serves="raw"),
    Scenario("lima", _lima, ("lima:a",), serves="raw"),
    Scenario("prune", _prunable, ("prune",), serves="raw"),
    Scenario("repair", _damaged, ("verify", "--repair"), again=(("raw:a", "fetch:a"),)),
)
