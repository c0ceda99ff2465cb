"""raw: what the content must be."""

from __future__ import annotations

import dataclasses
import gzip
from typing import TYPE_CHECKING

import pytest

from recipes.errors import UnsupportedFeature
from recipes.formats.disk.to_raw import to_raw
from recipes.formats.io.context import Context
from tests.kit.disks import CLUSTER, MiB, qcow2
from tests.kit.machines import Machine
from tests.kit.project import disk
from tests.kit.qcow2_images import COPIED, build

if TYPE_CHECKING:
    from pathlib import Path

NOWHERE = "registry.invalid"


@pytest.mark.parametrize(
    ("served", "found"),
    [
        (gzip.compress(b"<!doctype html>".ljust(1024), mtime=0), "an HTML page"),
        (gzip.compress(b"Not Found\n" * 100, mtime=0), "text"),
        (gzip.compress(b"", mtime=0), "an empty file"),
        (b"\x04\x22\x4d\x18" + bytes(508), "data that is compressed with lz4"),
    ],
)
def test_what_is_no_disk(tmp_path: Path, served: bytes, found: str) -> None:
    machine = Machine(tmp_path / "machine", NOWHERE, data=served)
    with pytest.raises(UnsupportedFeature, match=f"expected a disk image, found {found}"):
        machine.build()
    assert machine.entry.receipt("raw") is None


def test_what_an_earlier_larder_took_for_a_disk(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", NOWHERE, data=b"Not Found\n".ljust(512))
    machine.entry.ask("content")
    receipt = machine.build("content")
    assert receipt.content is not None
    with machine.entry.hold() as held:
        content = receipt.content._replace(format="raw")
        held.publish(machine.entry.artifact("content"), dataclasses.replace(receipt, content=content))
    with pytest.raises(UnsupportedFeature, match="found text"):
        machine.build()


def test_a_disk(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", NOWHERE)
    machine.build()
    assert machine.entry.artifact("raw").read_bytes() == disk("thing")


@pytest.mark.parametrize("kind", ["raw", "qcow2", "vmdk", "vhd", "hyperv"])
def test_a_guest_may_begin_its_disk_with_what_looks_like_an_image(kind: str, tmp_path: Path) -> None:
    """Of the RAW in the cache it is known that it is one; to look at it again would make another disk of it."""
    inner, _ = qcow2("inner")
    outer = build(size=MiB, l2={at: (4 + at) * CLUSTER | COPIED for at in range(5)}, data=inner[: 5 * CLUSTER])
    made = Machine(tmp_path / "a", "registry.invalid", data=outer)
    made.image = made.image._replace(derive=(kind,))
    made.build(kind)
    path = made.entry.artifact(kind)
    # A fixed VHD is the RAW with a footer, and nothing at its beginning says so.
    if kind not in ("raw", "vhd"):
        path = tmp_path / "raw"
        to_raw(made.entry.artifact(kind), path, Context(durable=False))
    assert path.read_bytes()[:MiB] == inner[: 5 * CLUSTER].ljust(MiB, b"\0")
