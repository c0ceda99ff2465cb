from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from recipes.cache.receipt import Served
from recipes.errors import Interrupted, NoSpace, StoreError
from recipes.export import lima
from recipes.export.lima import Supply
from recipes.formats.io import sparse
from recipes.model import Digest, Identity, Image, Source
from recipes.progress import SILENCE
from tests.kit import lima as limactl
from tests.kit import qcow2_images

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://example.org/a.qcow2"
MODIFIED = "Tue, 01 Sep 2026 10:00:00 GMT"
VZ, QEMU = ("raw", "asif"), ("qcow2", "raw", "vmdk", "vhdx")


def digest(data: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


WRAPPER = qcow2_images.build(data=b"new")
RAW = bytes(1 << 20)
SHA256 = str(digest(WRAPPER))


def supply(folder: Path, wrapper: bytes = WRAPPER, raw: bytes | None = RAW) -> Supply:
    """Return what an entry is made of, as the cache has it: read-only."""
    files = {"wrapper": wrapper} if raw is None else {"wrapper": wrapper, "disk.raw": raw}
    for name, data in files.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(data)
        (folder / name).chmod(0o444)
    digests = (digest(wrapper), digest(wrapper, "sha512"))
    served = Served(URL, last_modified=MODIFIED, content_type="application/octet-stream")
    converted = None if raw is None else (folder / "disk.raw", digest(raw))
    return Supply(folder / "wrapper", digests, served, converted)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "lima"


def differences(cache: Path, wrapper: bytes = WRAPPER, raw: bytes | None = RAW) -> list[str]:
    return limactl.differences(cache, URL, wrapper, raw, time=MODIFIED, type="application/octet-stream")


@pytest.mark.parametrize("way", ["hard link", "reflink", "copy"])
@pytest.mark.parametrize("order", ["raw newer", "wrapper newer"])
def test_an_entry_is_what_lima_would_have_made(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, way: str, order: str
) -> None:
    given = supply(tmp_path)
    os.utime(tmp_path / "wrapper", (1_000_000, 1_000_000 if order == "raw newer" else 3_000_000))
    os.utime(tmp_path / "disk.raw", (2_000_000, 2_000_000))
    before = {name: (tmp_path / name).stat() for name in ("wrapper", "disk.raw")}

    def reflink(source: Path, destination: Path) -> bool:
        if way == "reflink":
            destination.write_bytes(source.read_bytes())
            destination.chmod(0o600)
        return way == "reflink"

    def refuse(*arguments: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(sparse, "reflink", reflink)
    if way == "copy":
        monkeypatch.setattr(os, "link", refuse)
    lima.place(cache, URL, given, SILENCE)
    assert differences(cache) == []
    entry = limactl.entry_of(cache, URL)
    assert (entry / "imgconv" / "raw").samefile(tmp_path / "disk.raw") == (way == "hard link")
    assert (entry / "data").samefile(tmp_path / "wrapper") == (way == "hard link" and order == "raw newer")
    for name, status in before.items():
        now = (tmp_path / name).stat()
        assert (now.st_mode, now.st_mtime_ns) == (status.st_mode, status.st_mtime_ns), "a receipt records the mtime"
    for formats, path in ((VZ, entry / "imgconv" / "raw"), (QEMU, entry / "data")):
        for template in (SHA256, str(digest(WRAPPER, "sha512")), None):
            assert limactl.get_cached(cache, URL, template, formats) == limactl.Hit(path)


def test_macos_gets_files_that_an_instance_can_write_to(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = supply(tmp_path)
    monkeypatch.setattr(sparse, "reflink", lambda *arguments: False)
    monkeypatch.setattr(sys, "platform", "darwin")
    lima.place(cache, URL, given, SILENCE)
    monkeypatch.undo()
    entry = limactl.entry_of(cache, URL)
    assert {(entry / name).stat().st_mode & 0o777 for name in ("data", "imgconv/raw")} == {0o644}


def test_an_image_that_lima_need_not_convert(tmp_path: Path, cache: Path) -> None:
    lima.place(cache, URL, supply(tmp_path, b"a disk", None), SILENCE)
    assert differences(cache, b"a disk", None) == []
    assert lima.is_hit(limactl.entry_of(cache, URL), digest(b"a disk"), 6)


def test_what_the_server_did_not_say_is_empty(tmp_path: Path, cache: Path) -> None:
    lima.place(cache, URL, dataclasses.replace(supply(tmp_path), served=Served(URL)), SILENCE)
    assert limactl.differences(cache, URL, WRAPPER, RAW, time="", type="") == []


@pytest.mark.parametrize("by", ["larder", "limactl"])
def test_another_release_takes_the_place_of_what_is_there(tmp_path: Path, cache: Path, by: str) -> None:
    old = qcow2_images.build(data=b"old")
    if by == "larder":
        lima.place(cache, URL, supply(tmp_path, old), SILENCE)
    else:
        with limactl.working(cache, URL) as entry:
            (entry / "data").write_bytes(old)
            (entry / "data.tmp.larder").write_bytes(b"left by a kill")
            (entry / "sha256.digest").write_text(str(digest(old)))
        entry.chmod(0o700)
    with pytest.raises(limactl.Refused):
        limactl.get_cached(cache, URL, SHA256, VZ)
    lima.place(cache, URL, supply(tmp_path), SILENCE)
    assert differences(cache) == []


class Killed(BaseException):
    pass


def steps() -> list[tuple[str, int]]:
    return (
        [("unlink", turn) for turn in range(5)] + [("replace", turn) for turn in range(7)] + [("link", 0), ("link", 1)]
    )


@pytest.mark.parametrize(("call", "turn"), steps())
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_a_kill_leaves_no_entry_or_a_right_one(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, call: str, turn: int, after: bool, old: bool
) -> None:
    from pathlib import Path as AnyPath

    monkeypatch.setattr(sparse, "reflink", lambda *arguments: False)
    before = qcow2_images.build(data=b"old")
    if old:
        lima.place(cache, URL, supply(tmp_path, before), SILENCE)
    given = supply(tmp_path)
    os.utime(tmp_path / "wrapper", (1_000_000, 1_000_000))
    owner = os if call == "link" else AnyPath
    real: Any = getattr(owner, call)
    calls = 0

    def killed(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls - 1 == turn and not after:
            raise Killed
        result = real(*arguments, **named)
        if calls - 1 == turn:
            raise Killed
        return result

    monkeypatch.setattr(owner, call, killed)
    with pytest.raises(Killed):
        lima.place(cache, URL, given, SILENCE)
    monkeypatch.undo()
    for formats in (VZ, QEMU):
        for data, template in ((WRAPPER, SHA256), (before, str(digest(before)))):
            try:
                hit = limactl.get_cached(cache, URL, template, formats)
            except limactl.Refused:
                # As it would be had limactl downloaded the other release.
                assert (limactl.entry_of(cache, URL) / "data").read_bytes() != data
                continue
            if hit and not hit.converts:
                assert hit.path.read_bytes() == (data if hit.path.name == "data" else RAW)
    lima.place(cache, URL, given, SILENCE)
    assert differences(cache) == []


@pytest.mark.parametrize(
    "harm",
    ["data", "sha256.digest", "imgconv/raw", "imgconv/raw.digest", "other digest", "old raw", "short", "no digest"],
)
def test_what_is_no_hit(tmp_path: Path, cache: Path, harm: str) -> None:
    lima.place(cache, URL, supply(tmp_path), SILENCE)
    entry = limactl.entry_of(cache, URL)
    assert lima.is_hit(entry, digest(WRAPPER), len(WRAPPER))
    assert lima.is_hit(entry, digest(WRAPPER), None)
    size = len(WRAPPER)
    match harm:
        case "other digest":
            (entry / "sha256.digest").write_text(str(digest(b"another")))
        case "no digest":
            (entry / "imgconv" / "raw.digest").write_text("sha256:")
        case "old raw":
            (entry / "data").unlink()
            (entry / "data").write_bytes(WRAPPER)
            os.utime(entry / "imgconv" / "raw", (1, 1))
        case "short":
            size += 1
        case name:
            (entry / name).unlink()
    assert not lima.is_hit(entry, digest(WRAPPER), size)
    lima.place(cache, URL, supply(tmp_path), SILENCE)
    assert lima.is_hit(entry, digest(WRAPPER), len(WRAPPER))


def test_limactl_is_waited_for(tmp_path: Path, cache: Path) -> None:
    given = supply(tmp_path)
    with limactl.working(cache, URL) as entry:
        thread = threading.Thread(target=lima.place, args=(cache, URL, given, SILENCE))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        assert list(entry.iterdir()) == []
    thread.join(10)
    assert lima.is_hit(entry, digest(WRAPPER), None)


def test_who_waits_can_be_told_to_stop(tmp_path: Path, cache: Path) -> None:
    class Stopped:
        def advance(self, count: int) -> None:
            raise Interrupted("stop")

        def expect(self, total: int | None) -> None:
            pass

    class Stopping:
        def meter(self, label: str, total: int | None = None) -> Any:
            from contextlib import nullcontext

            return nullcontext(Stopped())

        def note(self, message: str) -> None:
            pass

    with limactl.working(cache, URL), pytest.raises(Interrupted):
        lima.place(cache, URL, supply(tmp_path), Stopping())


def test_remove_takes_its_own_only(tmp_path: Path, cache: Path) -> None:
    lima.place(cache, URL, supply(tmp_path), SILENCE)
    entry = limactl.entry_of(cache, URL)
    assert not lima.remove(cache, URL, digest(b"another"), SILENCE)
    assert entry.exists()
    assert lima.remove(cache, URL, digest(WRAPPER), SILENCE)
    assert not entry.exists()
    assert not lima.remove(cache, URL, digest(WRAPPER), SILENCE)
    lima.place(cache, URL, supply(tmp_path), SILENCE)
    (entry / "somebody's").touch()
    assert lima.remove(cache, URL, digest(WRAPPER), SILENCE)
    assert [path.name for path in entry.iterdir()] == ["somebody's"]


def test_errors_name_what_and_what_to_do(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.touch()
    with pytest.raises(StoreError, match="--lima-cache"):
        lima.place(cache, URL, supply(tmp_path), SILENCE)
    cache.unlink()

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sparse, "reflink", full)
    with pytest.raises(NoSpace):
        lima.place(cache, URL, supply(tmp_path), SILENCE)


def test_the_urls_that_lima_caches() -> None:
    declared = ("https://example.org/a-*.img", "file:///a.img", "http://mirror.example.org/a.img")
    image = Image("a", "x86_64", "disk", Source(declared))
    identity = Identity(
        ("https://example.org/a-2.img", "file:///a.img", "http://mirror.example.org/a.img"), digest(b"")
    )
    assert lima.cached_urls(image, identity) == ("http://mirror.example.org/a.img", "https://example.org/a-2.img")


def test_the_key_is_the_documented_one(tmp_path: Path) -> None:
    url = "https://example.com/test.qcow2"
    assert lima.entry_of(tmp_path, url) == limactl.entry_of(tmp_path, url)


def test_a_template_is_yaml_that_lima_reads() -> None:
    image = Image("a", "x86_64", "disk", Source((URL,)))
    found = lima.Locations((URL,), digest(b""), is_cached=True)
    urls = [
        "images:",
        '- location: "https://example.org/a.qcow2"',
        '  arch: "x86_64"',
        f'  digest: "{digest(b"")}"',
    ]
    assert lima.template(found, image).splitlines() == urls
    assert lima.template(found._replace(is_cached=False), image).splitlines() == [
        *urls,
        "# Lima downloads it: `larder lima:a` puts it into Lima's cache before",
    ]
    assert lima.template(lima.Locations(('/cache/a "b"/disk.raw',), None), image).splitlines() == [
        "images:",
        '- location: "/cache/a \\"b\\"/disk.raw"',
        '  arch: "x86_64"',
        "  # no digest: Lima would hash the whole disk for each instance; `larder verify` hashes its data",
    ]
