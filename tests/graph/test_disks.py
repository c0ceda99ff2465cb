"""qcow2, vmdk, vhd and hyperv through the real `doit` program: what runs, what stays, what commands make of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from recipes.formats.disk.to_raw import to_raw
from recipes.formats.io.context import Context
from tests.kit.disks import damage, qcow2

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project

KINDS = ("qcow2", "vmdk", "vhd", "hyperv")
pytestmark = pytest.mark.doit


def the_disk(path: Path) -> bytes:
    """Return what is on the disk in `path`, up to the MiB that a VHD has at least."""
    out = path.with_name("read back")
    try:
        to_raw(path, out, Context(durable=False))
        return out.read_bytes()
    finally:
        out.unlink(missing_ok=True)


def test_every_command_knows_them(project: Project, tmp_path: Path) -> None:
    data, raw = qcow2("a")
    project.declare("a", data, "a.qcow2", derive=list(KINDS))
    planned = json.loads(project.ok("plan", "a", "--json"))
    assert planned["images"][0]["runs"] == ["fetch", "content", "raw", "vhd", "hyperv", "qcow2", "vmdk"]
    project.ok("a")
    kept = {row["kind"]: row for row in json.loads(project.ok("status", "--json"))["artifacts"]}
    assert set(kept) == set(KINDS), "what was passed through goes"
    assert {row["state"] for row in kept.values()} == {"current"}
    for kind in KINDS:
        path = project.ok("path", f"{kind}:a").strip()
        assert path in project.ok("help", f"{kind}:a")
    assert project.executed("a") == set(), "all are current"

    vm = tmp_path / "vm"
    for name, options in (
        ("one.qcow2", ("--format", "compressed-qcow2")),
        ("two.vmdk", ()),
        ("three.vhd", ()),
        ("four.vhdx", ("--format", "hyperv")),
    ):
        project.ok("clone:a", "--to", str(vm / name), *options)
        assert the_disk(vm / name)[: 1 << 20] == raw
    # The suffix, and the format of that name, mean an overlay.
    project.ok("clone:a", "--to", str(vm / "over.qcow2"))
    assert (vm / "over.qcow2.base.raw").read_bytes() == raw

    assert project.doit("verify").status == 0
    damage(project.entry("a") / "disk.qcow2")
    damaged = project.doit("verify")
    assert damaged.status == 1
    assert "qcow2:a" in damaged.out + damaged.err
    project.doit("verify", "--repair")
    assert the_disk(project.entry("a") / "disk.qcow2") == raw


def test_the_compression_is_a_part_of_what_it_is(project: Project) -> None:
    data, _ = qcow2("a")
    project.declare("a", data, "a.qcow2", derive=["qcow2"])
    project.ok("qcow2:a")
    project.declare("a", data, "a.qcow2", derive=["qcow2"], **{"qcow2-compression": "zlib"})
    assert "qcow2:a" in project.executed("qcow2:a")
    assert project.executed("qcow2:a") == set()
