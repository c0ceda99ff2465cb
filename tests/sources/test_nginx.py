"""Downloads from a real nginx: its ranges, its validators, its limits; and a kill in the middle."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.errors import DigestMismatch, FetchError
from recipes.model import Digest
from recipes.sources import pages, retry
from recipes.sources.access import Access
from recipes.sources.download import Downloaded, Wanted, download
from recipes.sources.pages import NotModified, Page
from tests.kit.servers import DEADLINE, nginx
from tests.kit.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

#: The project's folder, which a child imports from.
ROOT = Path(__file__).parents[2]

DATA = random.Random(1).randbytes(1 << 20)
OTHER = random.Random(2).randbytes(1 << 20)

#: Half of the file at once, then a rate at which a test can act in the middle; the rest after a resume at once too.
SLOW = "limit_rate_after 512k; limit_rate 256k;"

#: Download, and die of SIGKILL once so many more bytes have arrived.
_CHILD = """
import os, signal, sys
from pathlib import Path
from recipes.model import Digest
from recipes.sources.access import Access
from recipes.sources.download import Wanted, download
from tests.kit.watch import Watch

class Deadly(Watch):
    def expect(self, total):
        self.doom = self.done + int(sys.argv[4])

    def advance(self, count):
        super().advance(count)
        if self.done >= getattr(self, "doom", self.done + 1):
            os.kill(os.getpid(), signal.SIGKILL)

url, part, digest = sys.argv[1:4]
download([url], Path(part), Access(progress=Deadly()), wanted=Wanted(Digest.parse(digest), None), label="debian")
"""


def digest_of(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 0.1)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "disk.img").write_bytes(DATA)
    return folder


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    folder = tmp_path / "nginx"
    folder.mkdir()
    return folder


@pytest.fixture
def part(tmp_path: Path) -> Path:
    (tmp_path / "entry").mkdir()
    return tmp_path / "entry" / "wrapper.part"


def fetch(url: str, part: Path, *, data: bytes = DATA, watch: Watch | None = None) -> Downloaded:
    return download(
        [url],
        part,
        Access(progress=watch or Watch()),
        wanted=Wanted(digest_of(data), None),
        label="debian",
    )


def assert_arrived(part: Path, data: bytes = DATA) -> None:
    assert part.read_bytes() == data
    assert list(part.parent.iterdir()) == [part]


def killed_midway(url: str, part: Path, digest: Digest) -> int:
    """Download in another process, which is killed after 100 kB, and return how much the part has then."""
    arguments = [url, str(part), str(digest), "100000"]
    child = subprocess.run([sys.executable, "-c", _CHILD, *arguments], check=False, timeout=DEADLINE, cwd=ROOT)
    assert child.returncode == -signal.SIGKILL
    return part.stat().st_size


def replace(path: Path, data: bytes) -> None:
    """Replace a file as a mirror does, with another time: nginx's ETag is made of time and size."""
    new = path.with_name("new")
    new.write_bytes(data)
    os.utime(new, (1_700_000_000, 1_700_000_000))
    new.replace(path)


def test_a_whole_file(root: Path, prefix: Path, part: Path) -> None:
    with nginx(root, prefix) as server:
        done = fetch(f"{server.url}/disk.img", part)
        assert server.log() == [f"200 {len(DATA)} - /disk.img"]
    assert_arrived(part)
    assert done.content_type == "application/octet-stream"
    assert done.etag
    assert done.last_modified


def test_a_new_process_goes_on_after_a_kill(root: Path, prefix: Path, part: Path) -> None:
    with nginx(root, prefix) as server:
        there = killed_midway(f"{server.url}/disk.img", part, digest_of(DATA))
        assert 0 < there < len(DATA)
        fetch(f"{server.url}/disk.img", part)
        assert server.log()[-1] == f"206 {len(DATA) - there} bytes={there}- /disk.img"
    assert_arrived(part)


def test_a_new_process_goes_on_after_several_kills(root: Path, prefix: Path, part: Path) -> None:
    with nginx(root, prefix) as server:
        there = [killed_midway(f"{server.url}/disk.img", part, digest_of(DATA)) for _ in range(2)]
        fetch(f"{server.url}/disk.img", part)
        assert [line.split()[2] for line in server.log()] == ["-", *(f"bytes={size}-" for size in there)]
    assert_arrived(part)


def test_a_file_that_was_replaced_meanwhile_starts_over(root: Path, prefix: Path, part: Path) -> None:
    with nginx(root, prefix) as server:
        there = killed_midway(f"{server.url}/disk.img", part, digest_of(OTHER))
        replace(root / "disk.img", OTHER)
        fetch(f"{server.url}/disk.img", part, data=OTHER)
        assert server.log()[-1] == f"200 {len(OTHER)} bytes={there}- /disk.img"
    assert_arrived(part, OTHER)


class _OnceMidway(Watch):
    """Call `act` once, when something has arrived."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act: Callable[[], None] | None = act

    def advance(self, count: int) -> None:
        super().advance(count)
        if count > 0 and self._act is not None:
            act, self._act = self._act, None
            act()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_server_that_restarts_midway(root: Path, prefix: Path, part: Path, replaced: bool) -> None:
    with nginx(root, prefix, server=SLOW) as server:

        def restart() -> None:
            server.stop()
            if replaced:
                replace(root / "disk.img", OTHER)
            server.start()

        watch = _OnceMidway(restart)
        data = OTHER if replaced else DATA
        fetch(f"{server.url}/disk.img", part, data=data, watch=watch)
        last = server.log()[-1]
    assert_arrived(part, data)
    assert watch.done == len(data)
    status, sent, asked, _ = last.split()
    there = int(asked.removeprefix("bytes=").removesuffix("-"))
    assert there > 0
    assert (status, int(sent)) == (("200", len(OTHER)) if replaced else ("206", len(DATA) - there))


def test_a_file_with_other_bytes_is_refused(root: Path, prefix: Path, part: Path) -> None:
    with nginx(root, prefix) as server, pytest.raises(DigestMismatch):
        fetch(f"{server.url}/disk.img", part, data=OTHER)
    assert not list(part.parent.iterdir())


def test_a_rate_limit_that_answers_503(root: Path, prefix: Path, part: Path) -> None:
    (root / "SHA256SUMS").write_bytes(b"list\n")
    with nginx(
        root,
        prefix,
        http="limit_req_zone $binary_remote_addr zone=few:1m rate=4r/s;",
        server="limit_req zone=few;",
    ) as server:
        pages.get([f"{server.url}/SHA256SUMS"], label="list", offline=False)
        fetch(f"{server.url}/disk.img", part)
        statuses = [line.split()[0] for line in server.log()]
    assert_arrived(part)
    assert statuses[1:-1].count("503") == len(statuses) - 2 > 0


def test_503_for_good(root: Path, prefix: Path, part: Path) -> None:
    with nginx(root, prefix, server="location / { return 503; }") as server:
        with pytest.raises(FetchError, match=r"503 Service Temporarily Unavailable|503 Service Unavailable"):
            fetch(f"{server.url}/disk.img", part)
        assert len(server.log()) == retry.ATTEMPTS


def test_404_at_once(root: Path, prefix: Path, part: Path) -> None:
    with nginx(root, prefix) as server:
        with pytest.raises(FetchError, match=f"debian: {server.url}/none.img: 404 Not Found"):
            fetch(f"{server.url}/none.img", part)
        assert len(server.log()) == 1


def test_compression_in_transit_is_not_asked_for(root: Path, prefix: Path, part: Path) -> None:
    data = b"text " * 100_000
    (root / "rootfs.txt").write_bytes(data)
    with nginx(root, prefix, server="gzip on; gzip_types *;") as server:
        fetch(f"{server.url}/rootfs.txt", part, data=data)
    assert_arrived(part, data)


def test_a_list_is_sent_again_only_when_it_changed(root: Path, prefix: Path) -> None:
    (root / "SHA256SUMS").write_bytes(b"one\n")
    with nginx(root, prefix) as server:
        urls = [f"{server.url}/SHA256SUMS"]
        first = pages.get(urls, label="list", offline=False)
        assert isinstance(first, Page)
        assert pages.get(urls, label="list", offline=False, validators=first.validators) == NotModified(urls[0])
        replace(root / "SHA256SUMS", b"two\n")
        changed = pages.get(urls, label="list", offline=False, validators=first.validators)
        assert isinstance(changed, Page)
        assert changed.content == b"two\n"
        assert [line.split()[0] for line in server.log()] == ["200", "304", "200"]
