"""Secrets of urls, planted in every role: none is in anything that larder prints or writes."""

from __future__ import annotations

import gzip
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.kit.project import disk, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.project import Project, Result
    from tests.kit.servers import Exchange

DATA = gzip.compress(disk("a"), mtime=0)
LIST = f"{sha256(DATA).removeprefix('sha256:')}  disk.raw.gz\n".encode()


def planted(url: str, role: str) -> str:
    """Return `url` with a secret in its userinfo and in its query."""
    return url.replace("://", f"://bob:sesame-{role}@") + f"?X-Amz-Signature=sesame-{role}&v=1"


@contextmanager
def upstream() -> Iterator[tuple[str, list[str]]]:
    """Serve the image, its list, a redirect to the image, and what is wrong; yield the url, and the paths asked for."""

    def behave(exchange: Exchange) -> None:
        path = exchange.path.partition("?")[0]
        if "gone" in path:
            exchange.reply(404)
        elif path.endswith("moved/disk.raw.gz"):
            host = exchange.headers["Host"]
            exchange.reply(302, Location=planted(f"http://{host}/disk.raw.gz", "redirect"))
        elif path.endswith("disk.raw.gz"):
            exchange.file(DATA if "wrong" not in path else DATA[:-1] + b"x")
        elif path.endswith("SHA256SUMS"):
            exchange.file(LIST)
        else:
            exchange.reply(503)

    with misbehaving(behave) as server:
        yield server.url, [seen.path for seen in server.seen]


def everything(project: Project, *results: Result) -> str:
    """Return all that was printed and all that was written, but for images.toml itself."""
    texts = [result.out + result.err for result in results]
    own = project.folder / "images.toml"
    for folder in (project.cache, project.folder):
        texts += [
            f"{path}\n{path.read_bytes().decode('latin-1')}"
            for path in folder.rglob("*")
            if path.is_file() and path != own and path.name not in ("wrapper", "content", "disk.raw")
        ]
    return "\n".join(texts)


def none_of_it(text: str) -> None:
    leaks = re.findall(r".*sesame.*", text)
    assert not leaks


@pytest.fixture
def secretive(project: Project) -> Project:
    """A project whose every attempt is made at once."""
    project.hook("from recipes.sources import retry\nretry.BACKOFF = 0.001")
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        project.environ.pop(name, None)
    return project


COMMANDS = (
    ("raw:a",),
    ("status", "--json"),
    ("status",),
    ("plan", "raw:a"),
    ("plan", "--json", "raw:a"),
    ("keys", "raw:a"),
    ("keys", "--json", "raw:a"),
    ("verify", "a"),
    ("info", "resolve:a"),
    ("list", "--all", "--status"),
    ("update", "--check"),
    ("run", "-a", "raw:a"),
    ("-v2", "raw:a"),
    ("prune", "--dry-run"),
)


#: Where nothing can be made, what tells of that.
FEW = (("raw:a",), ("status", "--json"), ("plan", "--json", "raw:a"), ("keys", "raw:a"))


class TestASecretIsNowhere:
    def declare(self, project: Project, **source: str) -> None:
        project.declared["a"] = {"derive": ["fetch", "raw"], "source": source}
        project.write()

    def run(self, project: Project, commands: tuple[tuple[str, ...], ...] = COMMANDS, **environ: str) -> list[Result]:
        return [project.doit(*command, **environ) for command in commands]

    def test_in_the_url_and_the_list(self, secretive: Project) -> None:
        with upstream() as (url, _):
            self.declare(
                secretive,
                url=planted(f"{url}/disk.raw.gz", "url"),
                checksums=planted(f"{url}/SHA256SUMS", "list"),
            )
            results = self.run(secretive)
        assert results[0].status == 0, results[0].err
        assert (secretive.entry("a") / "disk.raw").exists()
        text = everything(secretive, *results)
        assert "disk.raw.gz" in text
        none_of_it(text)

    def test_in_a_redirect(self, secretive: Project) -> None:
        with upstream() as (url, _):
            self.declare(secretive, url=planted(f"{url}/moved/disk.raw.gz", "url"), digest=sha256(DATA))
            results = self.run(secretive)
        assert results[0].status == 0, results[0].err
        none_of_it(everything(secretive, *results))

    @pytest.mark.parametrize("place", ["gone", "wrong", "busy"])
    def test_in_what_is_told_of_a_failure(self, secretive: Project, place: str) -> None:
        with upstream() as (url, _):
            name = "file" if place == "busy" else "disk.raw.gz"
            self.declare(
                secretive,
                url=planted(f"{url}/{place}/{name}", "url"),
                digest=sha256(DATA),
            )
            results = self.run(secretive, FEW)
        assert results[0].status == 1
        none_of_it(everything(secretive, *results))

    def test_in_a_list_and_a_signature_that_are_not_there(self, secretive: Project, tmp_path: Path) -> None:
        (tmp_path / "keyring").write_bytes(b"no keys")
        with upstream() as (url, _):
            for lists in ({"checksums": planted(f"{url}/gone/SHA256SUMS", "list")}, {}):
                self.declare(
                    secretive,
                    url=planted(f"{url}/disk.raw.gz", "url"),
                    **{
                        "checksums": planted(f"{url}/SHA256SUMS", "list"),
                        "signature": planted(f"{url}/gone/SHA256SUMS.gpg", "signature"),
                        "keyring": str(tmp_path / "keyring"),
                        **lists,
                    },
                )
                results = self.run(secretive, FEW)
                assert results[0].status == 1
                none_of_it(everything(secretive, *results))

    def test_in_a_mirror(self, secretive: Project) -> None:
        with upstream() as (url, _):
            for place in ("gone/", ""):
                mirror = f"http://bob:sesame-mirror@{url.removeprefix('http://')}/{place}"
                self.declare(secretive, url="https://upstream.invalid/disk.raw.gz", digest=sha256(DATA))
                secretive.write(f'[mirrors]\n"https://upstream.invalid/" = ["{mirror}"]\n')
                results = self.run(secretive, FEW)
                none_of_it(everything(secretive, *results))
        assert results[0].status == 0, results[0].err

    def test_in_a_proxy(self, secretive: Project) -> None:
        with upstream() as (url, _):
            self.declare(
                secretive, url=f"{url}/disk.raw.gz".replace("127.0.0.1", "upstream.invalid"), digest=sha256(DATA)
            )
            for proxy in ("http://bob:sesame-proxy@127.0.0.1:9/", planted(url, "proxy")):
                results = self.run(secretive, FEW, http_proxy=proxy)
                none_of_it(everything(secretive, *results))

    @pytest.mark.parametrize(
        "registry", ["http://bob:sesame@127.0.0.1:5000/x", "bob:sesame@127.0.0.1:5000/x"], ids=["url", "host"]
    )
    def test_in_a_registry(self, secretive: Project, registry: str) -> None:
        self.declare(secretive, url="https://upstream.invalid/disk.raw.gz", digest=sha256(DATA))
        secretive.write(f'[cache]\nregistry = "{registry}"\n')
        none_of_it(everything(secretive, *self.run(secretive, FEW)))

    def test_in_an_image_of_a_registry(self, secretive: Project) -> None:
        self.declare(secretive, url="oci://bob:sesame-image@127.0.0.1:5000/x:1", digest=sha256(DATA))
        none_of_it(everything(secretive, *self.run(secretive, FEW)))
