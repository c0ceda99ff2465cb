"""A floating image that is replaced while its list is fresh, here or in a proxy."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from tests.kit.project import disk, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from tests.kit.project import Project
    from tests.kit.servers import Exchange

OLD, NEW = (gzip.compress(disk(name), mtime=0) for name in ("old", "new"))


def listing(data: bytes) -> bytes:
    return f"{sha256(data).removeprefix('sha256:')}  disk.raw.gz\n".encode()


class Upstream:
    """Serves the new file; its list is the old one in a cache, or everywhere."""

    def __init__(self, *, moved: bool) -> None:
        self.moved = moved

    def __call__(self, exchange: Exchange) -> None:
        if exchange.path.endswith("disk.raw.gz"):
            exchange.file(NEW)
        elif self.moved and exchange.headers.get("Cache-Control") == "no-cache":
            exchange.file(listing(NEW), etag='"v2"')
        else:
            exchange.file(listing(OLD), Last_Modified="Tue, 01 Dec 2026 05:00:00 GMT")


def test_a_list_that_moved_is_asked_for_once_more(project: Project) -> None:
    with misbehaving(Upstream(moved=True)) as server:
        project.follow("a", f"{server.url}/disk.raw.gz", f"{server.url}/SHA256SUMS")
        out = project.ok("raw:a")
        asked = [seen.path for seen in server.seen]
        assert (asked.count("/SHA256SUMS"), asked.count("/disk.raw.gz")) == (2, 2)
        assert "moved; going on with what it says now" in out
        assert project.receipt("a", "raw")["wrapper"]["digest"] == sha256(NEW)
        # The list at hand is the new one now.
        project.ok("raw:a")
        assert len(server.seen) == 4


def test_one_that_did_not_is_named_with_its_age(project: Project) -> None:
    with misbehaving(Upstream(moved=False)) as server:
        project.follow("a", f"{server.url}/disk.raw.gz", f"{server.url}/SHA256SUMS")
        result = project.doit("raw:a")
        assert result.status == 1
        said = result.out + result.err
        assert f"the checksum list {server.url}/SHA256SUMS, of Tue, 01 Dec 2026 05:00:00 GMT" in said
        assert "--fresh" in said
        assert [seen.path for seen in server.seen].count("/disk.raw.gz") == 1


def test_a_pinned_image_asks_for_no_list(project: Project) -> None:
    with misbehaving(Upstream(moved=True)) as server:
        project.declared["a"] = {
            "source": {
                "url": f"{server.url}/disk.raw.gz",
                "digest": sha256(OLD),
                "checksums": f"{server.url}/SHA256SUMS",
            }
        }
        project.write()
        assert project.doit("raw:a").status == 1
        assert [seen.path for seen in server.seen] == ["/disk.raw.gz"]
