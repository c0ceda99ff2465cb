"""From a root file system to each form of it; what they hold is tested with the writers."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import jsonschema
import pytest

from recipes.errors import LarderError
from recipes.rootplace import ANYWHERE
from recipes.steps import trees
from recipes.steps.step import Request
from tests.kit.oci_images import file, folder, tar

SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "receipt.schema.json").read_text())
WANTED = trees.Wanted("x86_64", "", ANYWHERE)


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    source = tmp_path / "root.tar"
    source.write_bytes(tar(folder("etc"), file("etc/os-release", b"ID=test\n"), folder("bin"), file("bin/sh", b"#!")))
    return Request(source, tmp_path / "made", 1, 1 << 40, False, True, threading.Event())


def test_each_says_what_it_made(request_: Request) -> None:
    made = {
        "rootfs": trees.rootfs(request_, WANTED),
        "vhdx": trees.vhdx(request_._replace(destination=request_.destination.with_name("b")), WANTED, size=64 << 20),
        "ext4": trees.ext4(
            request_._replace(destination=request_.destination.with_name("c")),
            WANTED,
            size=64 << 20,
            label="root",
            journal=False,
        ),
        "oci": trees.oci(
            request_._replace(destination=request_.destination.with_name("d")), WANTED, compression="zstd", name=None
        ),
    }
    for kind, text in made.items():
        said = json.loads(text)
        jsonschema.validate(said, SCHEMA)
        assert said["kind"] == kind
        assert said["artifact"]["digest"] or said["artifact"]["blkhash"], "the writer knows it"


def test_what_has_no_root_leaves_nothing(request_: Request) -> None:
    request_.source.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(504))
    with pytest.raises(LarderError):
        trees.rootfs(request_, WANTED)
    assert not request_.destination.exists()
