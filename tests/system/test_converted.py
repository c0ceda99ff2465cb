"""Disks in the formats that hypervisors and clouds take, by booting them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from recipes.steps import disks
from recipes.steps.step import Request
from tests.kit.boot import boots

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.debian import Debian

pytestmark = pytest.mark.system


@pytest.mark.long
@pytest.mark.parametrize(("target", "form"), [(each, {"vhd": "vpc"}.get(each, each)) for each in disks.TARGETS])
def test_a_converted_disk_boots(image: Debian, qcow2: Path, target: str, form: str, tmp_path: Path) -> None:
    out = tmp_path / f"disk.{target}"
    disks.convert(Request(qcow2, out, 2, 1 << 40, False, False, threading.Event()), disks.Wish(target))
    # A streamOptimized VMDK is not written to, by no hypervisor.
    boots(image, f"format={form},snapshot=on,file={out}", "/dev/vda1", "test -e /etc/debian_version")
