from __future__ import annotations

import pytest

from recipes.errors import CorruptImage, ImageError, UnsupportedFeature
from recipes.formats.archive import ovf
from tests.kit.archives import manifest
from tests.kit.archives import ovf as descriptor


def test_the_disks_in_their_order() -> None:
    assert ovf.disks(descriptor("b.vmdk", "a%20b.vmdk", "./c.vmdk"), "d") == ["b.vmdk", "a b.vmdk", "c.vmdk"]


@pytest.mark.parametrize(
    "href", ["/etc/shadow", "../a.vmdk", "a/../../b", "http://host/a.vmdk", "file:a", "%2e%2e/a", ""]
)
def test_a_file_elsewhere_is_refused(href: str) -> None:
    with pytest.raises(CorruptImage, match="expected a file beside the descriptor"):
        ovf.disks(descriptor(href), "d")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>", UnsupportedFeature),
        (b"<!doctype a><a/>", UnsupportedFeature),
        (descriptor("a.vmdk").decode().encode("utf-16"), UnsupportedFeature),
        (b"no xml", CorruptImage),
        (b"<?xml version='1.0' encoding='x-odd'?><a/>", CorruptImage),
        (b"<a>" * 100_000, CorruptImage),
        (descriptor("a.vmdk").replace(b'fileRef="file0"', b'fileRef="other"'), CorruptImage),
        (descriptor("a.vmdk", more='ovf:chunkSize="1"'), UnsupportedFeature),
        (descriptor("a.vmdk", of_disk='ovf:parentRef="x"'), UnsupportedFeature),
    ],
)
def test_what_is_refused(data: bytes, error: type[ImageError]) -> None:
    with pytest.raises(error):
        ovf.disks(data, "d")


def test_sums_as_they_are_written() -> None:
    text = b"SHA1(a b.vmdk)= 00FF\r\nSHA256 (b(1).ovf) = ab\n\n"
    assert ovf.sums(text, "m") == [ovf.Sum("sha1", "a b.vmdk", "00ff"), ovf.Sum("sha256", "b(1).ovf", "ab")]
    assert [each.name for each in ovf.sums(manifest({"x": b"", "y": b""}, "sha512"), "m")] == ["x", "y"]
    with pytest.raises(CorruptImage, match="m:1: expected"):
        ovf.sums(b"MD5(a)= 00\n", "m")
