"""`doit lima:NAME` through the real `doit` program, read back as limactl would."""

from __future__ import annotations

import lzma
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.kit import lima as limactl
from tests.kit.disks import qcow2
from tests.kit.lima import QEMU, VZ
from tests.kit.project import disk, sha256
from tests.kit.servers import Exchange, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.project import Project
    from tests.kit.servers import Server

MODIFIED = "Tue, 01 Sep 2026 10:00:00 GMT"
TYPE = "application/x-qemu-disk"
CLUSTER = 1 << 16


class Upstream:
    """A server with the files that it is given."""

    def __init__(self, project: Project, server: Server) -> None:
        self.project = project
        self.server = server

    def declare(self, name: str, data: bytes, file: str = "a.qcow2", **image: object) -> str:
        (self.project.upstream / file).write_bytes(data)
        url = f"{self.server.url}/{file}"
        self.project.declared[name] = {**image, "source": {"url": url, "digest": sha256(data), "size": len(data)}}
        self.project.write()
        return url

    @property
    def requests(self) -> int:
        return len(self.server.seen)


@pytest.fixture
def upstream(project: Project, tmp_path: Path) -> Iterator[Upstream]:
    def behave(exchange: Exchange) -> None:
        data = (project.upstream / exchange.path.lstrip("/")).read_bytes()
        exchange.file(data, Last_Modified=MODIFIED, Content_Type=TYPE)

    project.environ["XDG_CACHE_HOME"] = str(tmp_path / "caches")
    with misbehaving(behave) as server:
        yield Upstream(project, server)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "lima"


def differences(cache: Path, url: str, wrapper: bytes, raw: bytes | None) -> list[str]:
    return limactl.differences(cache, url, wrapper, raw, time=MODIFIED, type=TYPE)


def test_limactl_neither_downloads_nor_converts(project: Project, upstream: Upstream, cache: Path) -> None:
    wrapper, raw = qcow2("a")
    url = upstream.declare("a", wrapper)
    project.ok("lima:a")
    assert differences(cache, url, wrapper, raw) == []
    entry = limactl.entry_of(cache, url)
    assert limactl.get_cached(cache, url, sha256(wrapper), VZ) == limactl.Hit(entry / "imgconv" / "raw")
    assert limactl.get_cached(cache, url, sha256(wrapper), QEMU) == limactl.Hit(entry / "data")
    assert upstream.requests == 1
    assert project.files("a") == {"disk.raw", "raw.json"}, "the wrapper was asked for by nobody"
    assert (project.entry("a") / "raw.used").exists()


@pytest.mark.parametrize("lost", [False, True])
def test_what_is_there_is_not_made_again(project: Project, upstream: Upstream, lost: bool) -> None:
    upstream.declare("a", qcow2("a")[0], derive=["fetch"])
    project.ok("lima:a")
    assert project.files("a") == {"wrapper", "fetch.json"}, "the RAW was asked for by nobody"
    if lost:
        (project.cache / "doit.db").unlink()
        for path in project.entry("a").iterdir():
            path.unlink()
    assert project.executed("lima:a") <= {"resolve:a"}
    assert upstream.requests == 1


def test_what_the_cache_has_is_not_downloaded(project: Project, upstream: Upstream, cache: Path) -> None:
    wrapper, raw = qcow2("a")
    url = upstream.declare("a", wrapper, derive=["fetch", "raw"])
    project.ok("fetch:a", "raw:a")
    project.ok("lima:a")
    assert upstream.requests == 1
    assert differences(cache, url, wrapper, raw) == []
    assert project.executed("fetch:a", "raw:a") == set(), "its receipts hold still"
    assert project.ok("verify").count("ok ") == 2


def test_a_wrapper_that_is_newer_than_its_raw(project: Project, upstream: Upstream, cache: Path) -> None:
    wrapper, raw = qcow2("a")
    url = upstream.declare("a", wrapper)
    project.ok("raw:a")
    assert not (project.entry("a") / "wrapper").exists()
    project.ok("lima:a")
    assert differences(cache, url, wrapper, raw) == []
    assert project.executed("raw:a") == set()


def test_another_image_has_the_bytes(project: Project, upstream: Upstream, cache: Path) -> None:
    wrapper, raw = qcow2("a")
    upstream.declare("a", wrapper, derive=["fetch", "raw"])
    project.ok("raw:a", "fetch:a")
    url = upstream.declare("b", wrapper, "b.qcow2")
    project.ok("lima:b")
    assert upstream.requests == 1
    assert differences(cache, url, wrapper, raw) == []


def test_a_new_release_takes_the_place_of_the_old(project: Project, upstream: Upstream, cache: Path) -> None:
    upstream.declare("a", qcow2("old")[0])
    project.ok("lima:a")
    wrapper, raw = qcow2("new")
    url = upstream.declare("a", wrapper)
    assert "lima:a" in project.executed("lima:a")
    assert differences(cache, url, wrapper, raw) == []


@pytest.mark.parametrize("name", ["raw.digest", "url", "data", "sha256.digest"])
def test_killed_while_it_writes(project: Project, upstream: Upstream, cache: Path, name: str) -> None:
    wrapper, raw = qcow2("a")
    url = upstream.declare("a", wrapper)
    environ = dict(project.environ)
    project.hook(
        "import os, pathlib\n"
        "replace = pathlib.Path.replace\n"
        "def killed(self, target):\n"
        f"    if self.name == '{name}.tmp.larder':\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return replace(self, target)\n"
        "pathlib.Path.replace = killed"
    )
    assert project.doit("lima:a").status == -9
    hit = limactl.get_cached(cache, url, sha256(wrapper), VZ)
    if name == "sha256.digest":
        assert hit == limactl.Hit(limactl.entry_of(cache, url) / "imgconv" / "raw", hashes=True)
    else:
        assert hit is None
    project.environ = environ
    project.ok("lima:a")
    assert differences(cache, url, wrapper, raw) == []
    assert upstream.requests == 1, "what was downloaded before the kill was there still"


def test_two_processes_at_once(project: Project, upstream: Upstream, cache: Path) -> None:
    wrapper, raw = qcow2("a")
    url = upstream.declare("a", wrapper)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: project.doit("lima:a"), range(3)))
    assert [result.status for result in results] == [0] * 3, results
    assert differences(cache, url, wrapper, raw) == []


def test_limactl_is_waited_for(project: Project, upstream: Upstream, cache: Path) -> None:
    wrapper, raw = qcow2("a")
    url = upstream.declare("a", wrapper)
    with limactl.working(cache, url) as entry:
        thread = threading.Thread(target=project.ok, args=("lima:a",))
        thread.start()
        thread.join(2)
        assert thread.is_alive()
        assert list(entry.iterdir()) == []
        entry.chmod(0o700)
    thread.join()
    assert differences(cache, url, wrapper, raw) == []


class TestATemplate:
    def test_of_what_the_cache_holds(self, project: Project, upstream: Upstream, cache: Path) -> None:
        wrapper, raw = qcow2("a")
        url = upstream.declare("a", wrapper)
        before = project.ok("lima:a", "--template")
        assert "# Lima downloads it: `larder lima:a` puts it into Lima's cache before" in before
        assert not cache.exists(), "it only prints"
        assert upstream.requests == 0
        told = project.ok("lima:a")
        assert f"   lima:a: {limactl.entry_of(cache, url)}, for {url}\n" in told
        out = project.ok("lima:a", "--template")
        assert out == f'images:\n- location: "{url}"\n  arch: "x86_64"\n  digest: "{sha256(wrapper)}"\n'
        assert before.startswith(out)
        assert differences(cache, url, wrapper, raw) == []
        assert upstream.requests == 1

    def test_of_a_compressed_image_in_the_cache(self, project: Project, upstream: Upstream) -> None:
        upstream.declare("a", lzma.compress(disk("a")), "a.raw.xz")
        project.ok("lima:a")
        assert str(project.entry("a") / "disk.raw") in project.ok("lima:a", "--template")
        assert upstream.requests == 1

    def test_of_a_compressed_image(self, project: Project, upstream: Upstream, cache: Path) -> None:
        upstream.declare("a", lzma.compress(disk("a")), "a.raw.xz", derive=["fetch"])
        out = project.ok("lima:a", "--template")
        raw = project.entry("a") / "disk.raw"
        assert f'images:\n- location: "{raw}"\n  arch: "x86_64"\n  # no digest' in out
        assert raw.read_bytes() == disk("a")
        assert not cache.exists()
        assert project.ok("lima:a", "--template") == out
        assert upstream.requests == 1
        project.ok("fetch:a")
        assert raw.exists(), "a template names it"

    def test_of_zstd_clusters(self, project: Project, upstream: Upstream, cache: Path) -> None:
        wrapper, raw = qcow2("a", zstd=True)
        url = upstream.declare("a", wrapper)
        project.ok("lima:a")
        out = project.ok("lima:a", "--template")
        assert str(project.entry("a") / "disk.raw") in out
        assert differences(cache, url, wrapper, raw) == [], "Lima 2.2 need not convert it"
        assert project.ok("lima:a", "--template") == out
        assert upstream.requests == 1

    def test_of_a_local_file(self, project: Project, upstream: Upstream) -> None:
        project.declare("a", disk("a"))
        assert str(project.entry("a") / "disk.raw") in project.ok("lima:a", "--template")


def test_a_compressed_image_is_not_downloaded_by_lima(project: Project, upstream: Upstream, cache: Path) -> None:
    wrapper = lzma.compress(disk("a"))
    url = upstream.declare("a", wrapper, "a.raw.xz")
    project.ok("lima:a")
    assert differences(cache, url, wrapper, None) == []
    assert project.files("a") == {"wrapper", "fetch.json"}, "the RAW is asked for, and lacks it"


def test_a_local_file_is_for_a_template(project: Project, upstream: Upstream) -> None:
    project.declare("a", disk("a"))
    result = project.doit("lima:a")
    assert result.status == 1
    assert "larder lima:a --template" in result.out
    assert "Traceback" not in result.out + result.err


def test_another_folder(project: Project, upstream: Upstream, cache: Path) -> None:
    wrapper, raw = qcow2("a")
    url = upstream.declare("a", wrapper)
    project.ok("lima:a", "--lima-cache", "here/lima")
    assert differences(project.folder / "here" / "lima", url, wrapper, raw) == []
    assert not cache.exists()
    assert project.executed("lima:a", "--lima-cache", "here/lima") == set()
    assert "lima:a" in project.executed("lima:a")


def test_a_folder_that_cannot_be_written_to(project: Project, upstream: Upstream) -> None:
    upstream.declare("a", qcow2("a")[0])
    (project.folder / "file").touch()
    result = project.doit("lima:a", "--lima-cache", "file")
    assert result.status == 1
    assert "--lima-cache" in result.out
    assert "Traceback" not in result.out + result.err


def test_clean(project: Project, upstream: Upstream, cache: Path) -> None:
    url = upstream.declare("a", qcow2("a")[0])
    project.ok("lima:a")
    project.ok("clean", "-n", "lima:a")
    assert limactl.entry_of(cache, url).exists()
    project.ok("clean", "lima:a")
    assert not limactl.entry_of(cache, url).exists()
    assert project.files("a") == {"disk.raw", "raw.json"}
    project.ok("clean", "lima:a")


def test_it_is_listed(project: Project, upstream: Upstream) -> None:
    upstream.declare("a", qcow2("a")[0], title="An image")
    assert "lima:a" in project.ok("list", "-s", "--all")
    assert "An image in Lima's download cache" in project.ok("list", "--all")
    assert "--lima-cache" in project.ok("help", "lima:a")
