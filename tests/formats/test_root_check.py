from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from recipes.errors import UnsupportedFeature
from recipes.formats.root_check import require_root
from recipes.formats.tar import read as tar_read
from tests.kit.oci_images import Entry, entry, file, folder, tar
from tests.kit.qcow2_images import build

if TYPE_CHECKING:
    from pathlib import Path


def check(path: Path, *entries: Entry, archive: bool = True) -> None:
    path.write_bytes(tar(*entries))
    with tar_read.load(path) as tree:
        require_root(tree, path, archive=archive)


def refused(path: Path, *entries: Entry, archive: bool = True) -> UnsupportedFeature:
    with pytest.raises(UnsupportedFeature) as caught:
        check(path, *entries, archive=archive)
    assert str(path) in caught.value.message
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "root.tar"


@pytest.mark.parametrize("name", ["bin", "sbin", "usr", "etc", "lib", "lib64", "nix", "gnu", "init"])
def test_what_roots_have(path: Path, name: str) -> None:
    check(path, folder(name), archive=False)


def test_a_program_will_do(path: Path) -> None:
    check(path, entry("hello", data=b"\x7fELF", mode=0o755))
    check(path, folder("app"), entry("app/run", data=b"x", mode=0o711))


@pytest.mark.parametrize("entries", [[], [folder("lost+found")]])
def test_nothing(path: Path, entries: list[Entry]) -> None:
    assert "found nothing at all in it" in refused(path, *entries).message


@pytest.mark.parametrize("where", ["rootfs", "image/rootfs"])
def test_a_root_in_a_folder(path: Path, where: str) -> None:
    entries = [folder(f"{where}/{name}") for name in ("bin", "etc", "usr")]
    error = refused(path, file("version"), *entries)
    assert f"found one in the folder '{where}'" in error.message
    assert f'strip = "{where}"' in (error.hint or "")
    # Of a disk nobody strips anything.
    assert "with etc, usr, bin or the like" in refused(path, file("version"), *entries, archive=False).message


def test_two_roots_are_none(path: Path) -> None:
    entries = [folder(f"{where}/{name}") for where in ("a", "b") for name in ("bin", "etc", "usr")]
    assert "found 'a', 'b'" in refused(path, *entries).message


def test_a_package_is_no_root(path: Path) -> None:
    assert "found 'pkg'" in refused(path, folder("pkg/usr"), folder("pkg/etc")).message


def test_an_image(path: Path) -> None:
    error = refused(path, file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), file("index.json", b"{}"))
    assert "the archive of a container image" in error.message
    assert 'kind = "oci"' in (error.hint or "")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (build(), True),
        (bytes(510) + b"\x55\xaa" + bytes(512), True),
        (bytes(1 << 16), False),
        (gzip.compress(b"x", mtime=0), False),
    ],
)
def test_a_disk(path: Path, data: bytes, found: bool) -> None:
    error = refused(path, file("readme", b"text"), file("disk.img", data))
    assert ("found a disk image in it: 'disk.img'" in error.message) is found


def test_the_largest_file_decides(path: Path) -> None:
    error = refused(path, file("disk.img", build()), file("notes", b"x" * (1 << 20)))
    assert "disk image" not in error.message


def test_what_there_is_is_told_in_few_words(path: Path) -> None:
    assert refused(path, *(file(f"n{number}") for number in range(9))).message.endswith(
        "found 'n0', 'n1', 'n2', 'n3', 'n4' …"
    )
    assert refused(path, file("\x1b[31m")).message.endswith("found '\\x1b[31m'")
