from __future__ import annotations

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.archive.choose import choose
from tests.kit.archives import manifest, members, ovf, tar

QCOW2 = b"QFI\xfb\0\0\0\3" + bytes(600)
MBR = bytes(510) + b"\x55\xaa"
JSON = b'{"provider": "libvirt", "format": "qcow2"}'


@pytest.mark.parametrize(
    ("files", "disk"),
    [
        ({"readme": b"text", "disk.raw": b"\1"}, "disk.raw"),
        ({"x.img": MBR, "disk.raw": b"\1"}, "disk.raw"),
        ({"README.md": b"# x", "deep/one.vhd.xz": b"x", "SHA256SUMS": b"0"}, "deep/one.vhd.xz"),
        ({"image": QCOW2, "notes": b"words"}, "image"),
        ({"image": MBR, "notes": b"words"}, "image"),
        ({"__MACOSX/._a.img": b"x", "a.img": b"x", "._a.img": b"x"}, "a.img"),
        ({"box.img": QCOW2, "metadata.json": JSON, "other.img": b"x"}, "box.img"),
        ({"a.img": QCOW2, "b.img": b"x", "metadata.json": b'{"disks": [{"path": "a.img"}]}'}, "a.img"),
        ({"box.ovf": ovf("b.vmdk"), "a.vmdk": b"x", "b.vmdk": b"x", "metadata.json": b"{}"}, "b.vmdk"),
        ({"d/x.ovf": ovf("b.vmdk"), "d/b.vmdk": b"x", "b.vmdk": b"y"}, "d/b.vmdk"),
        ({"Vagrantfile": b"x", "metadata.json": b'{"provider": "hyperv"}', "V/x.vhdx": b"x"}, "V/x.vhdx"),
    ],
)
def test_the_disk(files: dict[str, bytes], disk: str) -> None:
    assert choose(members(tar(files), "tar"), "archive").member.name == disk


@pytest.mark.parametrize(
    ("pattern", "disk"), [("*.vmdk", "a/one.vmdk"), ("two.img", "b/two.img"), ("b/*", "b/two.img")]
)
def test_what_is_declared_decides(pattern: str, disk: str) -> None:
    files = {"disk.raw": b"x", "a/one.vmdk": b"x", "b/two.img": b"x"}
    assert choose(members(tar(files), "tar"), "archive", pattern).member.name == disk


@pytest.mark.parametrize(
    ("files", "pattern", "message"),
    [
        (
            {"a.img": b"1", "b.img": b"22"},
            "",
            r"one disk in the archive, found a\.img \(1 B\), b\.img \(2 B\)",
        ),
        ({"etc/os-release": b"x"}, "", r"expected one disk in the archive, found etc/os-release"),
        ({}, "", "found no file"),
        ({"a.img": b"1", "b.img": b"22"}, "*.img", r"expected one disk called \*\.img in the archive, found a\.img"),
        ({"a.img": b"1"}, "c*", r"expected one disk called c\* in the archive, found a\.img"),
        ({"x.ovf": ovf("a.vmdk", "b.vmdk"), "a.vmdk": b"1", "b.vmdk": b"2"}, "", "one disk that it names"),
        ({"x.ovf": ovf("a.vmdk"), "y.ovf": ovf("a.vmdk"), "a.vmdk": b"1"}, "", "has 2 descriptors"),
    ],
)
def test_nothing_is_guessed(files: dict[str, bytes], pattern: str, message: str) -> None:
    with pytest.raises(UnsupportedFeature, match=message) as caught:
        choose(members(tar(files), "tar"), "archive", pattern)
    assert 'member = "NAME"' in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"/disk.raw": b"x"}, "leads out of the archive"),
        ({"a/../../disk.raw": b"x"}, "leads out of the archive"),
        ({"./disk.raw": b"x", "disk.raw": b"y"}, "two files are called"),
        ({"x.ovf": ovf("a.vmdk"), "b.vmdk": b"1"}, r"expected a\.vmdk in it, which is not there"),
        ({"metadata.json": b"{", "box.img": b"x"}, "expected JSON"),
        ({"x.ovf": ovf("a.vmdk"), "a.vmdk": b"1", "x.mf": b"", "y.mf": b""}, "has 2 manifests"),
    ],
)
def test_what_contradicts_itself(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(CorruptImage, match=message):
        choose(members(tar(files), "tar"), "archive")


def test_the_manifest_comes_along() -> None:
    files = {"x.ovf": ovf("a.vmdk"), "a.vmdk": b"1"}
    choice = choose(members(tar({**files, "x.mf": manifest(files)}), "tar"), "archive")
    assert [each.name for each in choice.sums] == ["x.ovf", "a.vmdk"]
    assert choose(members(tar({"disk.raw": b"x", "x.mf": b"anything"}), "tar"), "archive").sums == ()
