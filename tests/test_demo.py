"""The disk that comes with larder: it is what demo/build.py makes, and what other tools take for a disk."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from demo import build
from recipes import declare
from recipes.formats.disk import to_raw
from recipes.formats.io.context import Context
from recipes.settings import catalogue
from tests.kit import boot
from tests.kit.oracles import need
from tests.kit.project import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Path(__file__).parents[1] / "demo" / "demo.qcow2"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("demo") / "disk.raw"
    to_raw.to_raw(FILE, path, Context(limit=build.SIZE))
    yield path
    path.unlink()


def test_it_is_what_is_built(raw: Path) -> None:
    assert raw.read_bytes() == build.disk()


def test_it_is_what_is_declared_for_both_architectures() -> None:
    demo = declare.load(catalogue()).images["demo"]
    assert set(demo) == {"x86_64", "aarch64"}
    for image in demo.values():
        assert str(image.source.digest) == sha256(FILE.read_bytes())
        assert image.source.size == FILE.stat().st_size < 300_000
        assert image.source.urls == (FILE.as_uri(),)


def test_qemu_finds_nothing_to_complain_of(raw: Path) -> None:
    need("qemu-img")
    subprocess.run(["qemu-img", "check", FILE], check=True, capture_output=True)
    subprocess.run(["qemu-img", "compare", FILE, raw], check=True, capture_output=True)


def test_the_tables_are_those_of_a_gpt(raw: Path) -> None:
    need("sfdisk")
    done = subprocess.run(["sfdisk", "--verify", raw], capture_output=True, text=True, check=True)
    assert "No errors detected" in done.stdout


def test_the_file_system_is_clean(raw: Path, tmp_path: Path) -> None:
    need("e2fsck")
    with raw.open("rb") as disk:
        disk.seek(build.START)
        (tmp_path / "root.img").write_bytes(disk.read(build.END - build.START))
    subprocess.run(["e2fsck", "-fn", tmp_path / "root.img"], check=True, capture_output=True)


@pytest.mark.long
def test_it_boots(raw: Path) -> None:
    """The boot code says hello and halts, so QEMU is ended when it did."""
    need("qemu-system-x86_64")
    command = ["qemu-system-x86_64", "-m", "64", "-nographic", "-snapshot", "-drive", f"file={raw},format=raw"]
    assert boot.says(command, build.HELLO.strip(), raw.parent), "QEMU ended before the disk said hello"
