from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from recipes.graph.commands.convert import _TARGETS
from recipes.steps.disks import TARGETS
from tests.kit.project import disk

if TYPE_CHECKING:
    from tests.kit.project import Project


def test_there_and_back(bare: Project) -> None:
    (bare.folder / "disk.img").write_bytes(disk("a"))
    assert "disk.qcow2: " in bare.larder_ok("convert", "disk.img", "disk.qcow2")
    said = json.loads(bare.larder_ok("convert", "--json", "--to=vhdx", "disk.qcow2", "disk.x"))
    assert (said["kind"], said["recipe"]) == ("hyperv", "hyperv/1")
    bare.larder_ok("convert", "--jobs", "1", "disk.x", "back.raw")
    assert (bare.folder / "back.raw").read_bytes() == disk("a")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["disk.img"], 3, "expected SRC and DST, got 1 words"),
        (["disk.img", "disk.xyz"], 1, "expected a suffix that says the format"),
        (["--to=vdi", "disk.img", "x"], 3, "--to: expected raw, qcow2, vmdk, vhd or vhdx, got 'vdi'"),
        (["--jobs=0", "disk.img", "x.raw"], 3, "--jobs: "),
        (["--max-virtual-size=1", "disk.img", "x.raw"], 1, "more than the 1 that are allowed"),
        (["absent", "x.raw"], 1, "absent: expected a file, found nothing"),
    ],
)
def test_what_is_refused(bare: Project, words: list[str], status: int, message: str) -> None:
    (bare.folder / "disk.img").write_bytes(disk("a"))
    result = bare.larder("convert", *words)
    assert message in result.err
    assert result.status == status


def test_the_targets_are_those_of_the_step() -> None:
    assert tuple(TARGETS) == _TARGETS
