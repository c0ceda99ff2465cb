"""What has been done to other readers of images, one test for each family."""

from __future__ import annotations

import gzip
import json
import lzma
import struct
import tarfile
import uuid
import zlib
from functools import partial
from typing import TYPE_CHECKING

import pytest

from recipes.errors import LarderError, printable
from recipes.formats.codec import compression, zstd
from recipes.formats.codec.compressed import open_wrapper
from recipes.formats.tree import tree
from tests.kit import qcow2_images
from tests.kit.oci_images import Layout, docker_archive, entry, file, folder, hardlink, symlink, tar
from tests.kit.oracles import need
from tests.kit.tar_archives import END, extended, header
from tests.kit.tar_archives import file as member

from . import sandbox
from .campaign import TARGETS
from .costly import BOMBS

if TYPE_CHECKING:
    from pathlib import Path

    from .sandbox import Outcome

ESCAPE = "\x1b]0;owned\x07\u202e"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "input"


def throw(target: str, source: Path, data: bytes) -> Outcome:
    """Throw one input; nothing but a refusal, or the output, may come of it."""
    source.write_bytes(data)
    out = source.with_name("out")
    outcome = sandbox.run(partial(TARGETS[target].read, source, out), source.parent, len(data))
    assert outcome.wrong == ""
    assert {path.name for path in source.parent.iterdir()} == {"input"} | ({"out"} if out.exists() else set())
    assert outcome.accepted or not out.exists()
    return outcome


def refused(target: str, source: Path, data: bytes) -> str:
    outcome = throw(target, source, data)
    assert not outcome.accepted
    return outcome.message


# Images that name other files.


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "file:/etc/passwd", 'json:{"file.filename": "/etc/passwd"}', "nbd:x:1"]
)
def test_a_backing_file(name: str, source: Path) -> None:
    """CVE-2024-32498, CVE-2015-1850 and relatives."""
    data = qcow2_images.build(extensions=name.encode(), backing_file_offset=112, backing_file_size=len(name))
    assert "backing file" in refused("qcow2", source, data)


def test_an_external_data_file(source: Path) -> None:
    """CVE-2024-32498."""
    data = qcow2_images.build(incompatible=4, extensions=qcow2_images.extension(0x44415441, b"/etc/passwd"))
    assert "an external data file ('/etc/passwd')" in refused("qcow2", source, data)


@pytest.mark.parametrize(
    "data",
    [
        b'# Disk DescriptorFile\nversion=1\nCID=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "/etc/passwd" 0\n',
        (b"KDMV" + struct.pack("<IIQQQQIQQQB4sH", 1, 3, 2048, 128, 1, 20, 512, 0, 30, 128, 0, b"\n \r\n", 0)).ljust(
            512, b"\0"
        )
        + b'createType="monolithicFlat"\nRW 2048 FLAT "/etc/shadow" 0\n'.ljust(20 * 512, b"\0"),
        b"QED\0" + bytes(1020),
        b"QFI\xfb\0\0\0\1" + bytes(1016),
        b"\0" * 0x40 + b"\x7f\x10\xda\xbe" + bytes(1020),
    ],
    ids=["vmdk descriptor", "vmdk", "qed", "qcow", "vdi"],
)
def test_formats_that_can_name_other_files(data: bytes, source: Path) -> None:
    """CVE-2024-32498, CVE-2024-40767: a descriptor with paths in it."""
    assert "is not supported" in refused("qcow2", source, data)


# Archives that lead out of themselves.


@pytest.mark.parametrize(
    "entries",
    [
        [file("../../escaped")],
        [file("a/../../escaped")],
        [hardlink("a", "../../../etc/passwd")],
        [hardlink("a", "/etc/passwd")],
        [symlink("a", "b"), symlink("b", "a"), file("a/c")],
    ],
)
def test_tar_members_that_leave_the_root(entries: list[tuple[tarfile.TarInfo, bytes]], source: Path) -> None:
    refused("tar", source, tar(*entries))
    layout = Layout()
    refused("oci", source, layout.write(source, layout.image(tar(*entries))).read_bytes())


def test_symbolic_links_stay_within_the_root(source: Path) -> None:
    """What is put through a link to / or above is put into the archive's own root."""
    data = tar(symlink("up", "../../../.."), file("up/etc/new"), symlink("root", "/"), file("root/other"))
    assert throw("tar", source, data).accepted
    with tarfile.open(source.with_name("out")) as archive:
        assert {each.name.removeprefix("./") for each in archive} >= {"up", "root", "etc/new", "other"}


def test_links_in_the_place_of_documents_and_blobs(source: Path) -> None:
    for name in ("index.json", "oci-layout"):
        refused("oci", source, tar(symlink(name, "/etc/passwd")))
    layout = Layout()
    image = layout.image(tar(folder("a")))
    layout.write(source, image)
    blobs = [name for name in layout.files if name.startswith("blobs/")]
    for blob in blobs:
        rest = [file(name, data) for name, data in layout.files.items() if name != blob]
        refused("oci", source, tar(*rest, symlink(blob, "../../../../etc/passwd")))
        refused("oci", source, tar(*rest, entry(blob, tarfile.CHRTYPE)))


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "/etc/passwd", "a\0b", "\udc80", ""])
def test_names_of_layers_and_configs(name: str, source: Path) -> None:
    listing, files = docker_archive([tar(folder("a"))])
    for key, value in (("Layers", [name]), ("Config", name)):
        document = json.dumps([{**listing, key: value}]).encode()
        refused("oci", source, tar(*(file(each, data) for each, data in {**files, "manifest.json": document}.items())))


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:" + "/" * 64, "../x:" + "a" * 64, "sha256:"])
def test_digests_that_are_paths(digest: str, source: Path) -> None:
    layout = Layout()
    image = layout.image(tar(folder("a")))
    refused("oci", source, layout.write(source, image | {"digest": digest}).read_bytes())


# Bombs.


def test_content_without_end(source: Path) -> None:
    assert "expands to more than" in refused("zstd", source, BOMBS["zstd: one byte again and again"].make())


@pytest.mark.parametrize("bits", [28, 31, 41])
def test_a_window_of_zstd(bits: int, source: Path) -> None:
    """``zstd --long=31`` asks for 2 GiB."""
    frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(bits - 10) << 3]) + b"\x01\0\0"
    assert "needs a window of" in refused("zstd", source, frame)


def test_frames_and_members_without_content(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "SMALL_FRAMES", 100)
    monkeypatch.setattr(compression, "EMPTY_MEMBERS", 100)
    empty = b"\x28\xb5\x2f\xfd\x20\0\x01\0\0"
    skippable = b"\x50\x2a\x4d\x18\0\0\0\0"
    assert throw("zstd", source, empty * 100).accepted
    source.with_name("out").unlink()
    assert "frames of less than" in refused("zstd", source, empty * 101)
    assert "frames of less than" in refused("zstd", source, skippable * 101 + empty)
    assert throw("gzip", source, gzip.compress(b"") * 100).accepted
    source.with_name("out").unlink()
    assert "without content" in refused("gzip", source, gzip.compress(b"") * 101)


def test_a_frame_that_claims_to_be_empty_and_is_not(source: Path) -> None:
    """zstandard's decompress() returns nothing for it, and zstd(1) refuses it."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0x80, 0x48]) + bytes(4) + (1 | 4 << 3).to_bytes(3, "little") + b"data"
    refused("zstd-disk", source, frame)


def test_layers_with_large_windows_are_not_decoded_side_by_side(source: Path) -> None:
    frames = {bits: b"\x28\xb5\x2f\xfd\x00" + bytes([(bits - 10) << 3]) + b"\x01\0\0" for bits in (23, 27)}
    cases = (("zstd", frames[23], False), ("zstd", frames[27], True), ("xz", lzma.compress(b""), True))
    for codec, data, greedy in cases:
        source.write_bytes(data)
        with open_wrapper(source, codec) as wrapper:
            assert compression.is_greedy(wrapper) is greedy


def gpt(partitions: list[tuple[int, int]], *, number: int | None = None, sectors: int = 2048) -> bytearray:
    """Return a disk with these partitions, as first and last sectors."""
    linux = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4").bytes_le
    entries = b"".join(struct.pack("<16s16sQQQ72s", linux, linux, *each, 0, b"") for each in partitions)
    count = len(partitions) if number is None else number
    fields = [b"EFI PART", 1 << 16, 92, 0, 0, 1, sectors - 1, 40, sectors - 40, bytes(16), 2, count, 128]
    table = struct.pack("<8sIIIIQQQQ16sQII", *fields) + struct.pack("<I", zlib.crc32(entries))
    table = table[:16] + struct.pack("<I", zlib.crc32(table)) + table[20:]
    boot = bytes(446) + struct.pack("<BxxxBxxxII", 0, 0xEE, 1, sectors - 1) + bytes(48) + b"\x55\xaa"
    disk = bytearray(sectors * 512)
    disk[: 1024 + len(entries)] = boot + table.ljust(512, b"\0") + entries
    return disk


def test_a_partition_table_without_end(source: Path) -> None:
    assert "neither GPT header" in refused("partitions", source, bytes(gpt([(64, 99)], number=0xFFFFFFFF)))


def test_a_chain_of_boot_records_without_partitions(source: Path) -> None:
    disk = bytearray(2048 * 512)
    link = struct.Struct("<BxxxBxxxII")
    disk[446:512] = link.pack(0, 5, 1, 1000) + bytes(48) + b"\x55\xaa"
    for sector in range(1, 1000):
        at = sector * 512
        disk[at + 446 : at + 512] = link.pack(0, 5, sector, 1) + bytes(48) + b"\x55\xaa"
    assert "more than 256 logical partitions" in refused("partitions", source, bytes(disk))


def test_thousands_of_partitions_with_the_same_directory(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Only so many are looked into."""
    need("mke2fs")
    from .target import made

    def filesystem(content: Path) -> bytes:
        image = content.with_suffix(".img")
        image.write_bytes(bytes(256 << 10))
        made("mke2fs", "-q", "-F", "-b", "1024", "-N", "32", "-d", content, image)
        return image.read_bytes()

    root, other = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("other")
    (root / "etc").mkdir()
    (root / "etc/os-release").touch()
    for count, accepted in ((15, True), (16, False)):
        disk = gpt([(100, 611)] * count + [(700, 1211)])
        disk[100 * 512 : 612 * 512] = filesystem(other)
        disk[700 * 512 : 1212 * 512] = filesystem(root)
        assert throw("partitions", source, bytes(disk)).accepted is accepted
        source.with_name("out").unlink(missing_ok=True)


def test_links_on_a_disk_that_lead_through_a_large_directory(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whoever looks for ``/etc/os-release`` reads each directory once, and not at each of 64,000 steps."""
    need("mke2fs")
    from .target import made

    root = tmp_path_factory.mktemp("root")
    for number in range(3000):
        (root / f"{number}-{'n' * 200}").touch()
    (root / "d").mkdir()
    for number in range(40):
        (root / f"a{number}").symlink_to("d/../" * 800 + (f"a{number + 1}" if number < 39 else "d"))
    (root / "etc").symlink_to("a1")
    image = root.with_suffix(".img")
    image.write_bytes(bytes(6 << 20))
    made("mke2fs", "-q", "-F", "-b", "4096", "-N", "4096", "-O", "^has_journal", "-d", root, image)
    data = image.read_bytes()
    disk = gpt([(100, 100 + len(data) // 512)], sectors=2048 + len(data) // 512)
    disk[100 * 512 : 100 * 512 + len(data)] = data
    assert "expected a partition" in refused("partitions", source, bytes(disk))


def test_parents_that_no_member_is(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_UNNAMED", 4000)
    data = b"".join(extended([(b"path", b"%d/" % number + b"a/" * 1500 + b"x")]) + member(b"") for number in range(3))
    assert "more than 4000 directories" in refused("tar", source, data + END)


# Documents.

DEEP = 100_000
NESTED = b"[" * 900 + b"]" * 900


@pytest.mark.parametrize("target", ["manifests", "checksums", "receipts"])
@pytest.mark.parametrize(
    "data",
    [
        b"[" * DEEP,
        b'{"a":' * DEEP,
        NESTED,
        b'{"schemaVersion": ' + NESTED + b"}",
        b'{"larder": 1, "identity": ' + NESTED + b"}",
        b'{"schemaVersion": ' + b"9" * 5000 + b"}",
        b'{"schemaVersion": ' + b"9" * 4000 + b"}",
        b'{"schemaVersion": 1e999}',
        b'{"schemaVersion": NaN}',
        b"\xff\xfe\x00",
        b'{"\\ud800": "\\ud800"}',
    ],
    ids=range(11),
)
def test_json(target: str, data: bytes, source: Path) -> None:
    refused(target, source, data)


def test_receipts_that_lie(source: Path) -> None:
    valid = json.loads(TARGETS["receipts"].seeds(source.parent)[0])
    assert throw("receipts", source, json.dumps(valid).encode()).accepted
    for path, value in (
        (("kind",), "fetch"),
        (("kind",), ["raw"]),
        (("wrapper", "size"), float("inf")),
        (("wrapper", "size"), 10**4000),
        (("wrapper", "digest"), {"a": 1}),
        (("artifact",), []),
        (("content",), "text"),
        (("served", "etag"), 5),
        (("durations",), [1]),
    ):
        document = json.loads(json.dumps(valid))
        section = document
        for key in path[:-1]:
            section = section[key]
        section[path[-1]] = value
        refused("receipts", source, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a = " + b"[" * DEEP, "nested too deeply"),
        (b"a = " + b"{a=" * DEEP, "nested too deeply"),
        (b"a = " + b"9" * DEEP, "more digits than fit"),
        (b".".join([b"a"] * DEEP) + b" = 1\n", "a key has at most"),
        (b"[" + b".".join([b"'a'"] * DEEP) + b"]\n", "a key has at most"),
        (b"#" * (5 << 20), "characters"),
        (b'[images."\x1b[2J"]', "Illegal character"),
    ],
    ids=range(7),
)
def test_toml(data: bytes, reason: str, source: Path) -> None:
    assert reason in refused("images.toml", source, data)


# Messages.


def test_messages_do_not_speak_to_the_terminal() -> None:
    error = LarderError(f"found {ESCAPE}\nand \ud800", hint=f"see {ESCAPE}")
    assert str(error).isascii()
    assert str(error).split("\n")[1] == "and \\ud800"
    assert printable("a\nb\tc ä") == "a\\nb\\tc ä"


def test_names_from_outside_in_messages(source: Path) -> None:
    """`throw` judges each message: one with control characters is wrong."""
    escape = ESCAPE.encode()
    name = struct.pack(">BB46s", 0, 9, escape)
    refused(
        "qcow2", source, qcow2_images.build(incompatible=1 << 9, extensions=qcow2_images.extension(0x6803F857, name))
    )
    refused(
        "qcow2", source, qcow2_images.build(extensions=escape, backing_file_offset=112, backing_file_size=len(escape))
    )
    refused("tar", source, tar(file(f"../{ESCAPE}")))
    refused("tar", source, header(b"a", escape[:1]) + END)
    platform = {"os": ESCAPE, "architecture": "x\n  hint: run this"}
    manifest = {
        "schemaVersion": 2,
        "manifests": [{"platform": platform, "mediaType": ESCAPE, "digest": "sha256:" + "a" * 64, "size": 1}],
    }
    said = refused("manifests", source, json.dumps(manifest).encode())
    assert "\n  hint: run" not in said
    layout = Layout()
    said = refused("oci", source, layout.write(source, layout.image(tar(folder("a")), runs_on=platform)).read_bytes())
    assert "\n  hint: run" not in said
    refused("checksums", source, f"SHA256 ({ESCAPE}) = 12\n".encode())


@pytest.mark.parametrize("name", [b"a\0b", b"\0"])
def test_names_with_nul(name: bytes, source: Path) -> None:
    refused("tar", source, extended([(b"path", name)]) + member(b"") + END)
