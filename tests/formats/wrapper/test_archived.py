"""The disk in archives of every kind, against what went into them."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import subprocess
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, ImageError, LimitExceeded, UnsupportedFeature
from recipes.formats.io import blkhash
from recipes.formats.io.context import Context
from recipes.formats.io.sparse import allocated
from recipes.formats.wrapper.archived import is_archive, take
from recipes.progress import SILENT_METER
from tests.kit.archives import SPARSE, gnu_tar, manifest, ovf, tar, zipped
from tests.kit.disk_images import disk, made
from tests.kit.oracles import need

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(durable=False, scratch=lambda: tmp_path / "scratch")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = disk(tmp_path / "disk.raw", 9 * MiB)
    with path.open("r+b") as file:
        file.seek(510)
        file.write(b"\x55\xaa")
    return path


@pytest.mark.parametrize("how", SPARSE)
def test_a_raw_keeps_its_holes(how: str, raw: Path, tmp_path: Path, context: Context) -> None:
    path = gnu_tar(tmp_path / "a.tar", how, raw)
    found = take(path, tmp_path / "out", context)
    assert (tmp_path / "out").read_bytes() == raw.read_bytes()
    assert found.blkhash == blkhash.of_file(raw, jobs=1, meter=SILENT_METER)
    assert (found.format, found.virtual_size, found.size, found.digest) == ("raw", 9 * MiB, 9 * MiB, None)
    assert allocated(tmp_path / "out") <= allocated(raw) + MiB


@pytest.mark.parametrize("form", ["qcow2", "vmdk", "vhdx"])
def test_other_disks_are_known_by_their_sha256(form: str, raw: Path, tmp_path: Path, context: Context) -> None:
    need("qemu-img")
    image = made(raw, form)
    (tmp_path / "a.zip").write_bytes(zipped({"readme": b"x", "the.disk": image.read_bytes()}))
    found = take(tmp_path / "a.zip", tmp_path / "out", context)
    assert (tmp_path / "out").read_bytes() == image.read_bytes()
    assert found.digest is not None
    assert found.digest.hex == hashlib.sha256(image.read_bytes()).hexdigest()
    assert (found.codec, found.format, found.virtual_size, found.blkhash) == ("zip", form, 9 * MiB, None)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_disk_that_is_compressed_once_more(compress: object, raw: Path, tmp_path: Path, context: Context) -> None:
    assert callable(compress)
    (tmp_path / "a.tar").write_bytes(tar({"x.img.z": compress(raw.read_bytes()), "x.txt": b"x"}))
    found = take(tmp_path / "a.tar", tmp_path / "out", context, pattern="*.z")
    assert (tmp_path / "out").read_bytes() == raw.read_bytes()
    assert found.blkhash == blkhash.of_file(raw, jobs=1, meter=SILENT_METER)
    assert not (tmp_path / "scratch").exists()


#: An OVA with something beside its disk.
FILES = {"x.ovf": ovf("a.vmdk"), "a.vmdk": b"KDMV" + bytes(508), "b.iso": b"iso"}


class TestManifests:
    def take(self, folder: Path, context: Context, sums: bytes) -> None:
        (folder / "x.ova").write_bytes(tar({**FILES, "x.mf": sums}))
        take(folder / "x.ova", folder / "out", context)

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
    def test_that_hold(self, algorithm: str, tmp_path: Path, context: Context) -> None:
        self.take(tmp_path, context, manifest(FILES, algorithm))
        assert (tmp_path / "out").read_bytes() == FILES["a.vmdk"]

    @pytest.mark.parametrize("name", FILES)
    def test_of_other_bytes(self, name: str, tmp_path: Path, context: Context) -> None:
        with pytest.raises(CorruptImage, match=f"{name} is not what the manifest says: expected sha256"):
            self.take(tmp_path, context, manifest({**FILES, name: b"other"}))
        assert not (tmp_path / "out").exists()

    def test_of_a_file_that_is_not_there(self, tmp_path: Path, context: Context) -> None:
        with pytest.raises(CorruptImage, match=r"names c\.vmdk, which is not in it"):
            self.take(tmp_path, context, manifest({**FILES, "c.vmdk": b""}))


def test_what_is_no_archive(raw: Path, tmp_path: Path, context: Context) -> None:
    assert not is_archive(raw)
    with pytest.raises(UnsupportedFeature, match="expected an archive with a disk in it, found a RAW disk"):
        take(raw, tmp_path / "out", context)
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    with pytest.raises(UnsupportedFeature, match="found a 7z archive"):
        take(tmp_path / "a.7z", tmp_path / "out", context)


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_a_disk_larger_than_the_limit(name: str, tmp_path: Path, context: Context) -> None:
    data = bytes(510) + b"\x55\xaa" + bytes(MiB)
    (tmp_path / name).write_bytes((tar if name == "a.tar" else zipped)({"disk.raw": data}))
    with pytest.raises(LimitExceeded, match=r"disk\.raw has 1049088 bytes, and the limit is 1000 bytes"):
        take(tmp_path / name, tmp_path / "out", context._replace(limit=1000))


def test_what_a_small_file_may_hold_is_bounded_by_it(tmp_path: Path, context: Context) -> None:
    """A sparse member of 8 TiB in 1 KiB, whatever the virtual size may be."""
    raw = tmp_path / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(8 << 40)
    path = gnu_tar(tmp_path / "a.tar", "pax 1.0", raw)
    with pytest.raises(LimitExceeded, match="has 8796093022208 bytes"):
        take(path, tmp_path / "out", context)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_nothing_is_left_of_a_cut_archive(form: str, tmp_path: Path, context: Context) -> None:
    data = (tar if form == "tar" else zipped)({"disk.raw": bytes(510) + b"\x55\xaa" + bytes(range(256)) * 400})
    # A tar may end where a member does.
    end = 512 + 512 + 256 * 400 if form == "tar" else len(data)
    for stop in range(600, end, 9973 if form == "tar" else 97):
        (tmp_path / "cut").write_bytes(data[:stop])
        with pytest.raises(ImageError):
            take(tmp_path / "cut", tmp_path / "out", context)
        assert not (tmp_path / "out").exists(), stop


def test_an_ova_as_tools_make_it(raw: Path, tmp_path: Path, context: Context) -> None:
    need("qemu-img", "tar")
    vmdk = made(raw, "vmdk", "subformat=streamOptimized").rename(tmp_path / "a.vmdk")
    (tmp_path / "a.ovf").write_bytes(ovf("a.vmdk"))
    files = {name: (tmp_path / name).read_bytes() for name in ("a.ovf", "a.vmdk")}
    (tmp_path / "a.mf").write_bytes(manifest(files))
    subprocess.run(["tar", "--format=ustar", "-cf", "a.ova", "a.ovf", "a.mf", "a.vmdk"], cwd=tmp_path, check=True)
    assert take(tmp_path / "a.ova", tmp_path / "out", context).format == "vmdk"
    assert (tmp_path / "out").read_bytes() == vmdk.read_bytes()
