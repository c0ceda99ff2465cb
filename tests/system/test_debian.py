"""The main job on a real Debian: a real nginx, the real `doit`, and the tools that know what the result must be."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.boot import boots
from tests.kit.debian import ROOT_OFFSET, run
from tests.kit.oracles import need
from tests.kit.project import DOIT, MiB, Project, disk
from tests.kit.servers import nginx
from tests.kit.upstream import allocated, digest, pin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.debian import Debian
    from tests.kit.servers import Nginx

pytestmark = pytest.mark.system

#: What is left of an image of which nothing but the RAW is wanted.
FINISHED = {"disk.raw", "raw.json"}


def same_disk(raw: Path, original: Path) -> None:
    assert raw.stat().st_size == original.stat().st_size
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", raw, original)


class Made:
    """A project in which `doit raw:debian` has run once."""

    def __init__(self, folder: Path, server: Nginx, qcow2: Path) -> None:
        self.server = server
        self.project = Project(folder)
        pin(self.project, "debian", server.url, qcow2)
        self.executed = self.project.executed("raw:debian")
        self.raw = Path(self.project.ok("path", "raw:debian").rstrip("\n"))


@pytest.fixture(scope="module")
def made(qcow2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with nginx(qcow2.parent, tmp_path_factory.mktemp("nginx")) as server:
        yield Made(tmp_path_factory.mktemp("made"), server, qcow2)


class TestMainJob:
    def test_the_raw_is_what_qemu_img_makes(self, made: Made, image: Debian, qcow2: Path) -> None:
        assert made.executed == {"resolve:debian", "fetch:debian", "content:debian", "raw:debian"}
        need("cmp")
        run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", qcow2, made.raw)
        run("cmp", made.raw, image.raw)

    def test_it_is_sparse_and_alone(self, made: Made, image: Debian) -> None:
        assert made.raw.stat().st_blocks <= image.raw.stat().st_blocks
        assert made.project.files("debian") == FINISHED

    def test_its_file_system_is_whole(self, made: Made) -> None:
        need("e2fsck")
        run("e2fsck", "-fn", f"{made.raw}?offset={ROOT_OFFSET}")

    def test_it_boots(self, made: Made, image: Debian, tmp_path: Path) -> None:
        need("qemu-img")
        overlay = tmp_path / "overlay.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", made.raw, overlay)
        boots(image, f"format=qcow2,file={overlay}", "/dev/vda1")

    def test_again_runs_nothing(self, made: Made) -> None:
        assert made.project.executed("raw:debian") == set()

    def test_the_cache_needs_neither_upstream_nor_the_database(self, made: Made) -> None:
        assert [line.split()[0] for line in made.server.log()] == ["200"]
        (made.project.cache / "doit.db").unlink()
        assert made.project.executed("raw:debian") <= {"resolve:debian"}
        assert made.project.files("debian") == FINISHED


def test_new_bytes_under_the_same_url_rebuild_that_image_only(project: Project, qcow2: Path, tmp_path: Path) -> None:
    need("qemu-io")
    upstream, prefix = tmp_path / "site", tmp_path / "nginx"
    upstream.mkdir()
    prefix.mkdir()
    image, other = upstream / "debian.qcow2", upstream / "other.raw"
    shutil.copyfile(qcow2, image)
    other.write_bytes(disk("other"))

    def publish() -> None:
        lines = [f"{digest(file).removeprefix('sha256:')}  {file.name}\n" for file in (image, other)]
        (upstream / "SHA256SUMS").write_text("".join(lines), encoding="ascii")

    publish()
    with nginx(upstream, prefix) as server:
        for name, file in (("debian", image), ("other", other)):
            source = {"url": f"{server.url}/{file.name}", "checksums": f"{server.url}/SHA256SUMS"}
            project.declared[name] = {"source": source}
        project.write()
        project.ok("raw")
        untouched = (project.entry("other") / "disk.raw").stat()

        run("qemu-io", "-f", "qcow2", "-c", "write -q -P 90 1900M 1M", image)
        publish()
        executed = {task for task in project.executed("--fresh", "raw") if not task.startswith("_sums:")}
        assert executed - {"resolve:other"} == {"resolve:debian", "fetch:debian", "content:debian", "raw:debian"}
        requests = [line.rpartition(" ")[2] for line in server.log()]

    assert requests.count("/debian.qcow2") == 2
    assert requests.count("/other.raw") == 1
    assert (project.entry("other") / "disk.raw").stat() == untouched
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", image, project.entry("debian") / "disk.raw")


@pytest.mark.parametrize(
    ("growing", "answers"),
    [
        pytest.param("wrapper.part", ["200", "206"], id="download"),
        # While it arrives.
        pytest.param(".tmp-scratch-*", ["200", "206"], id="decompression"),
        pytest.param(".tmp-raw-*", ["200"], id="conversion"),
    ],
)
def test_killed_in_a_phase_the_same_command_finishes(
    project: Project, image: Debian, gzipped: Path, tmp_path: Path, growing: str, answers: list[str]
) -> None:
    prefix = tmp_path / "nginx"
    prefix.mkdir()
    with nginx(gzipped.parent, prefix, server="limit_rate 64m;") as server:
        pin(project, "debian", server.url, gzipped)
        kill_while(project, growing)
        assert "disk.raw" not in project.files("debian")
        project.ok("raw:debian")
        # nginx logs the killed one as 200 as well: it had begun.
        assert [line.split()[0] for line in server.log()] == answers
    same_disk(project.entry("debian") / "disk.raw", image.raw)
    assert project.files("debian") == FINISHED
    assert project.executed("raw:debian") == set()


def kill_while(project: Project, growing: str) -> None:
    """Run `doit raw:debian` until a file called `growing` in the entry has some megabytes, and kill it at once."""
    process = subprocess.Popen(
        [DOIT, "raw:debian"],
        cwd=project.folder,
        env=project.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with process:
        while process.poll() is None:
            if any(allocated(path) > 8 * MiB for path in project.entry("debian").glob(growing)):
                process.kill()
                return
            time.sleep(0.001)
    pytest.fail(f"doit ended with {process.returncode} before {growing} was seen to grow")
