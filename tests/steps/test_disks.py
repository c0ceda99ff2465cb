"""From disk image to disk image, by the functions that `python -m recipes` and `larder convert` stand on."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path

import jsonschema
import pytest

from recipes.errors import Interrupted, LarderError
from recipes.steps import disks
from recipes.steps.step import Request
from tests.kit.archives import tar, zipped
from tests.kit.disk_images import disk, qemu_img, qemu_raw
from tests.kit.oracles import need

MiB = 1 << 20
SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "receipt.schema.json").read_text())
#: What QEMU calls each target, and a magic with its place from the end or the beginning.
QEMU = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx"}


def request(source: Path, destination: Path, *, force: bool = False, json: bool = False) -> Request:
    return Request(source, destination, 2, 1 << 40, force, json, threading.Event())


def here(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("target", disks.TARGETS)
@pytest.mark.parametrize("source", ["raw", "raw.gz", "qcow2"])
def test_qemu_finds_the_disk_in_each(source: str, target: str, tmp_path: Path) -> None:
    need("qemu-img")
    raw = disk(tmp_path / "raw", 3 * MiB)
    path = tmp_path / source
    if source == "raw.gz":
        path.write_bytes(gzip.compress(raw.read_bytes(), 1))
    elif source == "qcow2":
        assert qemu_img("convert", "-c", "-O", "qcow2", raw, path)
    out = tmp_path / "out"
    said = json.loads(disks.convert(request(path, out, json=True), disks.Wish(target, "zlib")))
    jsonschema.validate(said, SCHEMA)
    assert said["kind"] == disks.TARGETS[target]
    found = out.read_bytes() if target == "raw" else qemu_raw(out, QEMU[target])
    assert found == raw.read_bytes()
    assert here(tmp_path) == sorted({"out", "raw", source})


@pytest.mark.parametrize("target", disks.TARGETS)
def test_one_format_by_any_way_has_the_same_bytes(target: str, tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 3 * MiB)
    disks.convert(request(raw, tmp_path / "qcow2"), disks.Wish("qcow2"))
    disks.convert(request(raw, tmp_path / "one"), disks.Wish(target))
    disks.convert(request(tmp_path / "qcow2", tmp_path / "two"), disks.Wish(target))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_suffix_says_the_target() -> None:
    assert disks.target_of(Path("vm/disk.QCOW2")) == "qcow2"
    assert set(disks.SUFFIXES.values()) == set(disks.TARGETS)
    with pytest.raises(LarderError, match="expected a suffix that says the format") as caught:
        disks.target_of(Path("disk.xyz"))
    assert caught.value.hint == "--to raw|qcow2|vmdk|vhd|vhdx decides"


@pytest.mark.parametrize("target", disks.TARGETS)
def test_a_damaged_source_leaves_nothing(target: str, tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 3 * MiB)
    whole = gzip.compress(raw.read_bytes(), 1)
    (tmp_path / "cut.gz").write_bytes(whole[:-100])
    before = here(tmp_path)
    with pytest.raises(LarderError):
        disks.convert(request(tmp_path / "cut.gz", tmp_path / "out"), disks.Wish(target))
    assert here(tmp_path) == before


@pytest.mark.parametrize("target", disks.TARGETS)
def test_what_is_told_to_stop_leaves_nothing(target: str, tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 9 * MiB)
    disks.convert(request(raw, tmp_path / "in"), disks.Wish("qcow2", "zlib"))
    asked = request(tmp_path / "in", tmp_path / "out")
    asked.stop.set()
    with pytest.raises(Interrupted):
        disks.convert(asked, disks.Wish(target))
    assert here(tmp_path) == ["in", "raw"]


def test_what_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", MiB)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(LarderError, match="exists already"):
        disks.convert(request(raw, tmp_path / "out"), disks.Wish("qcow2"))
    assert (tmp_path / "out").read_text() == "mine"
    disks.convert(request(raw, tmp_path / "out", force=True), disks.Wish("qcow2"))
    assert (tmp_path / "out").read_bytes().startswith(b"QFI\xfb")


def test_what_is_no_disk_is_refused_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(LarderError, match="expected a disk image, found an HTML page"):
        disks.convert(request(tmp_path / "page", tmp_path / "out"), disks.Wish("qcow2"))


def test_a_vhd_need_not_be_read(tmp_path: Path) -> None:
    raw = disk(tmp_path / "raw", 3 * MiB)
    made = []
    for name, blkhash in (("one", True), ("two", False), ("three", False)):
        disks.convert(request(raw, tmp_path / name), disks.Wish("vhd", blkhash=blkhash))
        made.append((tmp_path / name).read_bytes())
    assert made[0][: 3 * MiB] == made[1][: 3 * MiB] == raw.read_bytes()
    assert made[0] != made[1], "the UUID follows from less"
    assert made[1] == made[2], "and still from the disk alone"
    disk(tmp_path / "raw", 4 * MiB)
    disks.convert(request(raw, tmp_path / "four"), disks.Wish("vhd", blkhash=False))
    assert (tmp_path / "four").read_bytes()[-512:][68:84] != made[1][-512:][68:84]


class TestArchives:
    def test_a_disk_is_taken_out_of_an_archive(self, tmp_path: Path) -> None:
        raw = disk(tmp_path / "raw", 3 * MiB)
        path = tmp_path / "a.tar.gz"
        path.write_bytes(gzip.compress(tar({"disk.raw": raw.read_bytes(), "x": b"x"}), 1))
        disks.convert(request(path, tmp_path / "out"), disks.Wish("qcow2"))
        disks.convert(request(raw, tmp_path / "other"), disks.Wish("qcow2"))
        assert (tmp_path / "out").read_bytes() == (tmp_path / "other").read_bytes()
        assert here(tmp_path) == ["a.tar.gz", "other", "out", "raw"]

    def test_the_member_that_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(zipped({"a.img": bytes(512), "b.img": b"\1" * 512}))
        with pytest.raises(LarderError, match="expected one disk in the archive"):
            disks.convert(request(tmp_path / "a.zip", tmp_path / "out"), disks.Wish("raw"))
        disks.convert(request(tmp_path / "a.zip", tmp_path / "out"), disks.Wish("raw", member="b.*"))
        disks.content(request(tmp_path / "a.zip", tmp_path / "content"), member="b.*")
        assert (tmp_path / "out").read_bytes() == (tmp_path / "content").read_bytes() == b"\1" * 512
        assert here(tmp_path) == ["a.zip", "content", "out"]

    def test_a_member_of_what_is_no_archive(self, tmp_path: Path) -> None:
        raw = disk(tmp_path / "raw", MiB)
        with pytest.raises(LarderError, match="a member is of an archive, and this is none"):
            disks.convert(request(raw, tmp_path / "out"), disks.Wish("qcow2", member="*"))
        assert here(tmp_path) == ["raw"]


def test_errors_name_the_file_that_the_user_named(tmp_path: Path) -> None:
    (tmp_path / "page.gz").write_bytes(gzip.compress(b"<!DOCTYPE html><html></html>"))
    with pytest.raises(LarderError) as caught:
        disks.convert(request(tmp_path / "page.gz", tmp_path / "out"), disks.Wish("qcow2"))
    assert str(caught.value).startswith(f"{tmp_path}/page.gz: in it: expected a disk image, found an HTML page")
    assert here(tmp_path) == ["page.gz"]
