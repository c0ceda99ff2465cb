"""`python -m recipes`: one step alone."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from recipes.__main__ import COMMANDS, main
from recipes.formats.disk import to_raw
from recipes.settings import processors

from .kit.oci_images import Layout, file, folder, tar, write_folder
from .kit.project import MiB, disk

if TYPE_CHECKING:
    from recipes.formats.io.context import Context

SCHEMA = json.loads((Path(__file__).parents[1] / "schema" / "receipt.schema.json").read_text())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(disk("a"))
    return path


def test_raw(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "disk.raw"
    assert main(["raw", str(image), str(target)]) == 0
    assert target.read_bytes() == disk("a")
    assert "2.0 MiB" in capsys.readouterr().out


def test_raw_as_json(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["raw", "--json", str(image), str(tmp_path / "disk.raw")]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    assert document["content"] == {"digest": None, "size": 2 * MiB, "format": "raw", "virtual_size": 2 * MiB}
    assert document["artifact"]["blkhash"]["block_size"] == 65536


def test_raw_without_blkhash(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["raw", "--json", "--no-blkhash", str(image), str(tmp_path / "disk.raw")]) == 0
    assert json.loads(capsys.readouterr().out)["artifact"]["blkhash"] is None


def test_content_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(disk("a")))
    assert main(["content", "--json", str(tmp_path / "a.gz"), str(tmp_path / "a")]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    assert document["content"]["format"] == "raw"
    assert document["artifact"]["digest"] == document["content"]["digest"]
    assert (tmp_path / "a").read_bytes() == disk("a")


def test_content_without_digests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(disk("a")))
    assert main(["content", "--json", "--no-digests", str(tmp_path / "a.gz"), str(tmp_path / "a")]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    assert document["content"] == {"digest": None, "size": 2 * MiB, "format": "raw", "virtual_size": 2 * MiB}
    assert (document["artifact"]["digest"], document["artifact"]["blkhash"]) == (None, None)
    assert (tmp_path / "a").read_bytes() == disk("a")


@pytest.mark.parametrize("asked", [[], ["--help"], ["no-such-command"]])
def test_all_commands_are_known_where_none_is_named(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(asked)
    text = "".join(capsys.readouterr())
    if asked == ["--help"]:
        assert all(f"    {name} " in text for name in COMMANDS)
    elif asked == ["no-such-command"]:
        assert all(repr(name) in text or f" {name}" in text for name in COMMANDS)
    else:
        assert "usage: python -m recipes [-h]" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: python -m recipes {command} " in capsys.readouterr().out


@pytest.mark.parametrize("compression", ["zstd", "zlib"])
def test_compressed_qcow2(compression: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, made, back = tmp_path / "raw", tmp_path / "disk.qcow2", tmp_path / "back"
    raw.write_bytes(disk("thing"))
    assert main(["qcow2", "--json", f"--compression={compression}", str(raw), str(made)]) == 0
    said = json.loads(capsys.readouterr().out)
    jsonschema.validate(said, SCHEMA)
    assert (said["kind"], said["recipe"]) == ("qcow2", "qcow2/1")
    assert said["artifact"]["size"] == made.stat().st_size
    # The compression type is in the header from 5.1 on.
    assert made.read_bytes()[104] == (compression == "zstd")
    assert main(["raw", str(made), str(back)]) == 0
    assert back.read_bytes() == raw.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "disk.qcow2", "raw"]


def test_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'a' * 64} *one.img\n{'b' * 64} *two.img\n")
    assert main(["digest", "--name", "two.img", str(tmp_path / "SHA256SUMS")]) == 0
    assert f"sha256:{'b' * 64}" in capsys.readouterr().out
    assert main(["digest", "--name", "three.img", str(tmp_path / "SHA256SUMS")]) == 1
    assert "three.img" in capsys.readouterr().err


def test_digest_of_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digest", "--name", "two.img", "https://example.org//SHA256SUMS"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("https://example.org//SHA256SUMS: expected a file, got a url\n")


@pytest.mark.parametrize(("jobs", "options", "used"), [("3", [], 3), ("3", ["--jobs", "2"], 2), ("", [], processors())])
def test_jobs(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str, options: list[str], used: int
) -> None:
    seen: list[int] = []
    real = to_raw.to_raw

    def noted(source: Path, destination: Path, context: Context, *, blkhash: bool, own: bool) -> to_raw.RawDisk:
        seen.append(context.jobs)
        return real(source, destination, context, blkhash=blkhash, own=own)

    monkeypatch.setattr(to_raw, "to_raw", noted)
    monkeypatch.setenv("LARDER_JOBS", jobs)
    assert main(["raw", *options, str(image), str(tmp_path / "out")]) == 0
    assert seen == [used]


def test_jobs_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LARDER_JOBS", "many")
    with pytest.raises(SystemExit) as caught:
        main(["raw", "a", "b"])
    assert caught.value.code == 3
    assert "expected a number of threads from 1 to 256, got 'many'" in capsys.readouterr().err


def test_an_existing_destination_is_kept(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "disk.raw"
    target.write_bytes(b"precious")
    assert main(["raw", str(image), str(target)]) == 1
    assert target.read_bytes() == b"precious"
    assert "--force" in capsys.readouterr().err
    assert main(["raw", "--force", str(image), str(target)]) == 0
    assert target.read_bytes() == disk("a")


@pytest.mark.parametrize("force", [False, True])
def test_a_failure_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], force: bool) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(disk("a"))[:-4])
    target = tmp_path / "a"
    if force:
        target.write_bytes(b"precious")
    assert main(["content", *(["--force"] if force else []), str(tmp_path / "a.gz"), str(target)]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a.gz"} | ({"a"} if force else set())
    if force:
        assert target.read_bytes() == b"precious"
    assert "gzip" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["raw", "missing", "x"], ["raw", ".", "x"], ["content", "missing", "x"]])
def test_a_source_that_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert "expected a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "file", "message"),
    [
        ("raw", gzip.compress(disk("a"), mtime=0), "python -m recipes content {0} DST undoes the compression"),
        ("raw", b"<html>", "expected a disk image, found an HTML page"),
        ("rootfs", b"QFI\xfb\0\0\0\3", "truncated QCOW2 image"),
        ("clone", b"QFI\xfb\0\0\0\3", "python -m recipes raw {0} DST makes a RAW disk of it"),
        ("clone", b"404: Not Found", "expected a RAW disk, found text"),
    ],
)
def test_what_is_something_else_is_named(
    step: str, file: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.write_bytes(file)
    assert main([step, str(source), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert message.format(source) in said
    assert "qemu-img" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("step", ["rootfs", "vhdx", "oci"])
def test_a_root_in_a_folder(step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tar").write_bytes(tar(*(folder(f"root/{name}") for name in ("etc", "usr", "bin")), file("version")))
    words = [step, str(tmp_path / "a.tar"), str(tmp_path / "out")]
    assert main(words) == 1
    assert "--strip does the same" in capsys.readouterr().err
    assert main([*words, "--strip", "root"]) == 0


@pytest.mark.parametrize("step", ["rootfs", "vhdx", "oci"])
def test_where_the_root_is(step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tar").write_bytes(tar(folder("etc"), folder("usr")))
    words = [step, str(tmp_path / "a.tar"), str(tmp_path / "out"), "--root"]
    assert main([*words, "partition 3"]) == 1
    assert "a partition, volume or subvolume is on a disk, and this is none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "3"])
    assert 'expected "partition N"' in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("step", ["rootfs", "vhdx", "oci"])
def test_the_folder_of_a_layout(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout()
    layout.write(tmp_path / "a.tar", layout.image(tar(folder("etc"), file("etc/a"))))
    write_folder(tmp_path / "a", layout.files)
    (tmp_path / "empty").mkdir()
    words = [step, "--arch", "x86_64"]
    assert main([*words, str(tmp_path / "a.tar"), str(tmp_path / "one")]) == 0
    # The name that clients call it is the folder's.
    monkeypatch.chdir(tmp_path / "a")
    assert main([*words, ".", str(tmp_path / "two")]) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert main([*words, str(tmp_path / "empty"), str(tmp_path / "three")]) == 1
    assert "the folder of an image layout, found one without oci-layout" in capsys.readouterr().err
    blob = next(path for path in (tmp_path / "a/blobs/sha256").iterdir() if path.stat().st_size > 5000)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    assert main([*words, str(tmp_path / "a"), str(tmp_path / "three")]) == 1
    assert f"expected sha256:{blob.name}, found" in capsys.readouterr().err


def test_a_virtual_size_over_the_limit(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["raw", "--max-virtual-size", "1MiB", str(image), str(tmp_path / "x")]) == 1
    assert "2097152" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_destination_that_is_a_folder(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], force: list[str]
) -> None:
    assert main(["raw", *force, str(image), str(tmp_path)]) == 1
    assert "found a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["raw"],
        ["raw", "--max-virtual-size", "much", "a", "b"],
        ["raw", "--jobs", "0", "a", "b"],
        ["content", "--jobs", "many", "a", "b"],
    ],
)
def test_a_wrong_command_line(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 3


def test_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("recipes.formats.disk.to_raw.to_raw", broken)
    (tmp_path / "a").write_bytes(disk("a"))
    assert main(["raw", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "RuntimeError: a bug" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_leaves_nothing_at_the_destination(tmp_path: Path, number: signal.Signals) -> None:
    source = tmp_path / "a.gz"
    with gzip.open(source, "wb", compresslevel=1) as file:
        for index in range(20):
            file.write(disk(str(index), 16 * MiB))
    with subprocess.Popen(
        [sys.executable, "-m", "recipes", "content", source, tmp_path / "a"], stderr=subprocess.PIPE
    ) as process:
        while not list(tmp_path.glob(".a.*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode in (130, -signal.SIGKILL)
    assert not (tmp_path / "a").exists()
    if number != signal.SIGKILL:
        assert [path.name for path in tmp_path.iterdir()] == ["a.gz"]
