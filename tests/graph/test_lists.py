"""Images that follow upstream's checksum list, through the real `doit` program and a real nginx.

The lists are made by the programs that upstreams make them with.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.oracles import lack, need
from tests.kit.project import disk, sha256
from tests.kit.servers import Nginx, nginx
from tests.kit.signer import Signer, home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.kit.project import Project

CI = {"CI": "true"}


class Upstream:
    """A folder that nginx serves: images, and lists of them."""

    def __init__(self, folder: Path, server: Nginx) -> None:
        self.folder = folder
        self.server = server
        self.url = server.url
        self._changes = 0

    def image(self, name: str, seed: str | None = None) -> bytes:
        """Put up a compressed disk; return the disk."""
        data = disk(seed or name)
        (self.folder / name).write_bytes(gzip.compress(data, compresslevel=1, mtime=0))
        return data

    def run(self, *command: str, data: bytes | None = None) -> bytes:
        need(command[0])
        return subprocess.run(command, cwd=self.folder, input=data, stdout=subprocess.PIPE, check=True).stdout

    def sums(self, *command: str, to: str = "SHA256SUMS") -> str:
        """Put up what `command` prints of all images; return its url."""
        names = sorted(path.name for path in self.folder.glob("*.gz"))
        return self.put(to, self.run(*(command or ("sha256sum",)), *names))

    def put(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        # nginx makes validators of the size and the second; tests are quicker than that.
        self._changes += 1
        os.utime(self.folder / name, (10**9 + self._changes, 10**9 + self._changes))
        return f"{self.url}/{name}"

    def asked(self, name: str) -> list[str]:
        """Return the statuses of the requests for `name` so far."""
        lines = (line.split() for line in self.server.log())
        self.server.start()
        return [line[0] for line in lines if line[-1].partition("?")[0] == f"/{name}"]


@pytest.fixture
def upstream(project: Project, tmp_path: Path) -> Iterator[Upstream]:
    # Five attempts take a quarter of a minute.
    project.hook("import recipes.sources.retry as retry; retry.BACKOFF = 0.001")
    prefix = tmp_path / "nginx"
    prefix.mkdir()
    with nginx(project.upstream, prefix) as server:
        yield Upstream(project.upstream, server)


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    need("gpg", "gpgconf")
    with home() as made:
        made.make("upstream")
        made.make("somebody")
        yield made


def raw(project: Project, name: str) -> bytes:
    return (project.entry(name) / "disk.raw").read_bytes()


def chain(*names: str) -> set[str]:
    return {f"{kind}:{name}" for name in names for kind in ("resolve", "fetch", "content", "raw")}


def derived(project: Project, *arguments: str, **environ: str) -> set[str]:
    """Run doit; return the names of the tasks that it executed, but for the lists."""
    return {task for task in project.executed(*arguments, **environ) if not task.startswith("_sums:")}


def age(project: Project, seconds: float = 7200) -> None:
    """Make the lists in the cache older."""
    for path in (project.cache / "lists").iterdir():
        kept = json.loads(path.read_bytes())
        path.write_text(json.dumps({**kept, "confirmed": kept["confirmed"] - seconds}))


class TestStyles:
    @pytest.mark.parametrize(
        "command",
        [
            ["sha256sum"],
            ["sha256sum", "--binary"],
            ["sha256sum", "--tag"],
            ["sha512sum"],
            ["shasum", "-a", "256"],
            ["shasum", "-a", "512", "--tag"],
            ["openssl", "dgst", "-sha256"],
            ["sh", "-c", 'sha256sum "$@" | sed "s/^[0-9a-f]*/\\U&/"', "sh"],
            ["sh", "-c", 'sha256sum --tag "$@"; sha512sum --tag "$@"; sha1sum --tag "$@"', "sh"],
            ["sh", "-c", 'sha256sum "$@"; stat -c "# %n: %s bytes" "$@"', "sh"],
            ["sh", "-c", 'sha256sum ./"$1"; sha256sum "$1"', "sh"],
            ["sh", "-c", 'sha256sum < "$1" | cut -d " " -f 1', "sh"],
        ],
        ids=" ".join,
    )
    def test_a_list_decides(self, project: Project, upstream: Upstream, command: list[str]) -> None:
        data = upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums(*command))
        assert derived(project, "raw:a") == chain("a")
        assert raw(project, "a") == data
        assert project.executed("raw:a") == set()

    def test_a_size_in_a_list_is_in_the_identity(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        size = (upstream.folder / "a.raw.gz").stat().st_size
        checksums = upstream.sums("sh", "-c", 'stat -c "# %n: %s bytes" "$@"; sha256sum --tag "$@"', "sh")
        project.follow("a", f"{upstream.url}/a.raw.gz", checksums)
        project.ok("raw:a")
        assert project.receipt("a", "raw")["identity"]["size"] == size

    def test_a_list_that_does_not_name_the_image(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw", upstream.sums())
        result = project.doit("raw:a")
        assert result.status == 1
        assert "resolve:a: the list does not name a.raw" in result.out

    def test_two_digests_for_one_name(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        checksums = upstream.sums("sh", "-c", 'sha256sum "$1"; echo ff | sha256sum | sed "s/-/$1/"', "sh")
        project.follow("a", f"{upstream.url}/a.raw.gz", checksums)
        assert "a.raw.gz is listed twice, with different digests" in project.doit("raw:a").out


class TestRequests:
    def test_a_list_of_several_images_is_asked_for_once_a_run(self, project: Project, upstream: Upstream) -> None:
        for name in "abc":
            upstream.image(f"{name}.raw.gz")
        checksums = upstream.sums()
        for name in "abc":
            project.follow(name, f"{upstream.url}/{name}.raw.gz", checksums)
        assert derived(project, "-n", "3", "raw") == chain("a", "b", "c")
        assert upstream.asked("SHA256SUMS") == ["200"]
        assert len(project.executed("raw", **CI)) == 1
        assert upstream.asked("SHA256SUMS") == ["200", "304"]

    def test_a_changed_line_rebuilds_that_image_and_no_other(self, project: Project, upstream: Upstream) -> None:
        for name in "abc":
            upstream.image(f"{name}.raw.gz")
        checksums = upstream.sums()
        for name in "abc":
            project.follow(name, f"{upstream.url}/{name}.raw.gz", checksums)
        project.ok("raw")
        before = {name: project.receipt(name, "raw") for name in "abc"}
        data = upstream.image("b.raw.gz", "b, released again")
        upstream.sums()
        assert derived(project, "raw", **CI) == chain("b")
        assert raw(project, "b") == data
        assert {name for name in "abc" if project.receipt(name, "raw") != before[name]} == {"b"}
        upstream.image("unrelated.raw.gz")
        upstream.sums()
        assert derived(project, "raw", **CI) == set()
        # What was not rebuilt was not downloaded either.
        assert upstream.asked("a.raw.gz") == upstream.asked("c.raw.gz") == ["200"]
        assert upstream.asked("b.raw.gz") == ["200", "200"]

    def test_when_a_list_is_asked_for_again(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("raw:a")
        project.ok("raw:a")
        age(project, 3500)
        project.ok("raw:a")
        assert upstream.asked("SHA256SUMS") == ["200"]
        age(project, 200)
        project.ok("raw:a")
        assert upstream.asked("SHA256SUMS") == ["200", "304"]
        project.ok("raw:a", **CI)
        project.ok("raw:a", CI="false")
        project.ok("--fresh", "raw:a")
        project.ok("run", "--fresh", "raw:a")
        assert upstream.asked("SHA256SUMS") == ["200", "304", "304", "304", "304"]
        # A clock that was wrong does not make a list fresh for years.
        age(project, -7200)
        project.ok("raw:a")
        assert len(upstream.asked("SHA256SUMS")) == 6

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"url": 1, "confirmed": null, "validators": 3, "text": ""}'])
    def test_a_broken_copy_is_no_copy(self, project: Project, upstream: Upstream, text: str) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("raw:a")
        next((project.cache / "lists").iterdir()).write_text(text)
        assert derived(project, "raw:a") <= {"resolve:a"}
        assert upstream.asked("SHA256SUMS") == ["200", "200"]

    def test_a_copy_that_cannot_be_kept(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.cache.mkdir()
        (project.cache / "lists").write_text("in the way")
        result = project.doit("raw:a")
        assert result.status == 1
        assert f"cannot keep the checksum list {upstream.url}/SHA256SUMS" in result.out
        assert "Traceback" not in result.out + result.err

    def test_mirrors_serve_lists_and_signatures_too(self, project: Project, upstream: Upstream, signer: Signer) -> None:
        data = upstream.image("a.raw.gz")
        upstream.sums()
        upstream.put("SHA256SUMS.gpg", signer.sign("upstream", data=(upstream.folder / "SHA256SUMS").read_bytes()))
        (project.folder / "key.asc").write_bytes(signer.export("upstream", armour=True))
        elsewhere = "https://images.invalid/stable"
        source = {"signature": f"{elsewhere}/SHA256SUMS.gpg", "keyring": "key.asc"}
        project.follow("a", f"{elsewhere}/a.raw.gz", f"{elsewhere}/SHA256SUMS", **source)
        project.write(f'[mirrors]\n"https://images.invalid/stable/" = ["{upstream.url}/"]\n')
        project.ok("raw:a")
        assert raw(project, "a") == data
        assert project.receipt("a", "raw")["identity"]["url"] == f"{elsewhere}/a.raw.gz"
        project.ok("raw:a", **CI)
        assert upstream.asked("SHA256SUMS") == ["200", "304"]
        # A mirror is not trusted.
        upstream.image("a.raw.gz", "not what was signed")
        upstream.sums()
        result = project.doit("raw:a", **CI)
        assert result.status == 1
        assert "https://images.invalid/stable/SHA256SUMS is not what" in result.out
        assert raw(project, "a") == data


class TestUpstreamIsDown:
    def test_the_last_good_copy_is_used_and_that_is_told(self, project: Project, upstream: Upstream) -> None:
        data = upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("raw:a")
        upstream.server.stop()
        assert "warning" not in project.ok("raw:a")
        out = project.ok("raw:a", **CI)
        assert f"warning: using the checksum list {upstream.url}/SHA256SUMS as of 2" in out
        assert "connection refused" in out.lower()
        assert derived(project, "raw:a", **CI) == set()
        assert raw(project, "a") == data
        # The copy got no younger by being used.
        age(project)
        assert "warning" in project.ok("raw:a")

    @pytest.mark.parametrize("reporter", ["console", "json", "zero"])
    def test_that_is_told_with_any_reporter(self, project: Project, upstream: Upstream, reporter: str) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("raw:a")
        upstream.server.stop()
        result = project.doit("run", "-r", reporter, "raw:a", **CI)
        assert result.status == 0
        assert "warning: using the checksum list" in result.out + result.err

    def test_strict_makes_it_an_error(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("raw:a")
        upstream.server.stop()
        result = project.doit("raw:a", LARDER_STRICT="1", **CI)
        assert result.status == 1
        assert f"{upstream.url}/SHA256SUMS" in result.out
        project.ok("raw:a", LARDER_STRICT="1")

    def test_without_a_copy_it_is_an_error(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        upstream.server.stop()
        result = project.doit("raw:a")
        assert result.status == 1
        assert f"checksum list SHA256SUMS: {upstream.url}/SHA256SUMS: connection refused (5 attempts)" in result.out

    @pytest.mark.parametrize("text", ["", "<!doctype html><html></html>", "no list at all", '{"truncated": '])
    def test_what_is_no_list_does_not_replace_one(self, project: Project, upstream: Upstream, text: str) -> None:
        data = upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("raw:a")
        upstream.put("SHA256SUMS", text.encode())
        assert "warning: using the checksum list" in project.ok("raw:a", **CI)
        assert project.doit("raw:a", LARDER_STRICT="1", **CI).status == 1
        assert raw(project, "a") == data


class TestSignatures:
    @pytest.fixture
    def keyring(self, project: Project, signer: Signer) -> str:
        (project.folder / "keys").mkdir()
        (project.folder / "keys" / "upstream.asc").write_bytes(signer.export("upstream", armour=True))
        return "keys/upstream.asc"

    @pytest.fixture
    def clearsign(self, upstream: Upstream, signer: Signer) -> Callable[[], str]:
        def put() -> str:
            upstream.sums("sha256sum", "--tag", to="plain")
            document = signer.sign("upstream", how="--clearsign", data=(upstream.folder / "plain").read_bytes())
            return upstream.put("CHECKSUM", document)

        return put

    @pytest.mark.parametrize("armour", [[], ["--armor"]], ids=["binary", "armoured"])
    def test_a_detached_signature(
        self, project: Project, upstream: Upstream, signer: Signer, keyring: str, armour: list[str]
    ) -> None:
        data = upstream.image("a.raw.gz")
        checksums = upstream.sums()
        text = (upstream.folder / "SHA256SUMS").read_bytes()
        signature = upstream.put("SHA256SUMS.gpg", signer.sign("upstream", options=tuple(armour), data=text))
        project.follow("a", f"{upstream.url}/a.raw.gz", checksums, signature=signature, keyring=keyring)
        project.ok("raw:a")
        assert raw(project, "a") == data

    def test_a_clear_signed_list_needs_no_url_of_a_signature(
        self, project: Project, upstream: Upstream, keyring: str, clearsign: Callable[[], str]
    ) -> None:
        data = upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", clearsign(), keyring=keyring)
        project.ok("raw:a")
        assert raw(project, "a") == data
        upstream.image("a.raw.gz", "released again")
        clearsign()
        assert derived(project, "raw:a", **CI) == chain("a")

    @pytest.mark.parametrize(
        ("harm", "said"),
        [
            (lambda text: text.replace(b"SHA256 (a.raw.gz) = ", b"SHA256 (a.raw.gz) = 0")[:-1], "altered"),
            (lambda text: text + b"SHA256 (a.raw.gz) = " + b"0" * 64, "text outside the signed block"),
            (lambda text: b"SHA256 (a.raw.gz) = " + b"0" * 64 + b"\n" + text, "text outside the signed block"),
            (lambda text: text.partition(b"-----BEGIN PGP SIGNATURE")[0], "not complete"),
            (lambda text: b"SHA256 (a.raw.gz) = " + b"0" * 64, "is not signed"),
        ],
        ids=["altered", "text after it", "text before it", "cut short", "not signed"],
    )
    def test_a_list_that_was_tampered_with_is_refused(
        self,
        project: Project,
        upstream: Upstream,
        keyring: str,
        clearsign: Callable[[], str],
        harm: Callable[[bytes], bytes],
        said: str,
    ) -> None:
        data = upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", clearsign(), keyring=keyring)
        project.ok("raw:a")
        upstream.put("CHECKSUM", harm((upstream.folder / "CHECKSUM").read_bytes()))
        result = project.doit("raw:a", **CI)
        assert result.status == 1
        assert said in result.out
        assert project.ok("path", "raw:a").strip() == str(project.entry("a") / "disk.raw")
        assert raw(project, "a") == data
        clearsign()
        assert derived(project, "raw:a", **CI) == set()

    def test_a_list_that_another_key_signed_is_refused(
        self, project: Project, upstream: Upstream, signer: Signer, keyring: str
    ) -> None:
        upstream.image("a.raw.gz")
        text = upstream.run("sha256sum", "a.raw.gz")
        checksums = upstream.put("CHECKSUM", signer.sign("somebody", how="--clearsign", data=text))
        project.follow("a", f"{upstream.url}/a.raw.gz", checksums, keyring=keyring)
        result = project.doit("raw:a")
        assert result.status == 1
        assert f"which the keyring does not hold; it holds {signer.fingerprints('upstream')[0]}" in result.out
        assert not project.entry("a").exists() or not project.files("a")

    def test_a_keyring_that_was_replaced_is_asked_anew(
        self, project: Project, upstream: Upstream, signer: Signer, keyring: str, clearsign: Callable[[], str]
    ) -> None:
        data = upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", clearsign(), keyring=keyring)
        project.ok("raw:a")
        (project.folder / keyring).write_bytes(signer.export("somebody"))
        # Not even within the hour in which the list is not asked for again.
        assert "which the keyring does not hold" in project.doit("raw:a").out
        assert raw(project, "a") == data

    def test_a_signature_that_cannot_be_had(
        self, project: Project, upstream: Upstream, signer: Signer, keyring: str
    ) -> None:
        upstream.image("a.raw.gz")
        checksums = upstream.sums()
        text = (upstream.folder / "SHA256SUMS").read_bytes()
        signature = upstream.put("SHA256SUMS.gpg", signer.sign("upstream", data=text))
        project.follow("a", f"{upstream.url}/a.raw.gz", checksums, signature=signature, keyring=keyring)
        project.ok("raw:a")
        upstream.image("a.raw.gz", "released again")
        upstream.sums()
        (upstream.folder / "SHA256SUMS.gpg").unlink()
        assert "warning: using the checksum list" in project.ok("raw:a", **CI)
        assert derived(project, "raw:a", **CI) == set()


class TestNamesThatMove:
    def test_a_star_in_the_url(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a-9.9.raw.gz")
        data = upstream.image("a-9.10.raw.gz")
        project.follow("a", f"{upstream.url}/a-*.raw.gz?x=1", upstream.sums())
        project.ok("raw:a")
        assert raw(project, "a") == data
        identity = project.receipt("a", "raw")["identity"]
        assert identity["url"] == f"{upstream.url}/a-9.10.raw.gz?x=1"
        upstream.image("a-9.11~rc 1.raw.gz")
        upstream.sums()
        assert derived(project, "raw:a", **CI) == chain("a")
        assert project.receipt("a", "raw")["identity"]["url"] == f"{upstream.url}/a-9.11~rc%201.raw.gz?x=1"

    def test_a_pattern_for_a_folder_that_moves(self, project: Project, upstream: Upstream) -> None:
        for date in ("20260101", "20260102"):
            (upstream.folder / f"release-{date}").mkdir()
            upstream.image(f"release-{date}/a.raw.gz", date)
        index = {
            "products": {
                date: {
                    "path": f"server/releases/release-{date}/a.raw.gz",
                    "sha256": sha256((upstream.folder / f"release-{date}" / "a.raw.gz").read_bytes())[7:],
                    "size": (upstream.folder / f"release-{date}" / "a.raw.gz").stat().st_size,
                }
                for date in ("20260102", "20260101")
            }
        }
        checksums = upstream.put("download.json", json.dumps(index).encode())
        declared = f"{upstream.url}/release-20250101/a.raw.gz"
        project.follow("a", declared, checksums, pattern="release-*/a.raw.gz")
        project.ok("raw:a")
        assert raw(project, "a") == disk("20260102")
        assert project.receipt("a", "raw")["identity"]["url"] == f"{upstream.url}/release-20260102/a.raw.gz"


class TestContentDigest:
    @staticmethod
    def stream(upstream: Upstream, content: str) -> str:
        """Put up a list in the style of Fedora CoreOS."""
        wrapper = sha256((upstream.folder / "a.raw.gz").read_bytes())[7:]
        artifact = {"location": f"{upstream.url}/a.raw.gz", "sha256": wrapper, "uncompressed-sha256": content}
        return upstream.put("stable.json", json.dumps({"formats": {"raw.gz": {"disk": artifact}}}).encode())

    def test_content_is_verified(self, project: Project, upstream: Upstream) -> None:
        data = upstream.image("a.raw.gz")
        digest = hashlib.sha256(data).hexdigest()
        project.follow("a", f"{upstream.url}/a.raw.gz", self.stream(upstream, digest))
        project.ok("raw:a")
        assert project.receipt("a", "raw")["identity"]["content"] == f"sha256:{digest}"

    def test_content_that_differs_is_refused(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        digest = "0" * 64
        project.follow("a", f"{upstream.url}/a.raw.gz", self.stream(upstream, digest))
        result = project.doit("raw:a")
        assert result.status == 1
        assert f"is not what upstream lists: expected sha256:{digest}" in result.out
        assert not {"content", "disk.raw"} & project.files("a")


class TestTheOldArtifactStays:
    def test_until_the_new_one_is_there(self, project: Project, upstream: Upstream) -> None:
        old = upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("raw:a")
        data = upstream.image("a.raw.gz", "new")
        upstream.sums()
        log = project.folder.parent / "log"
        project.hook(
            "from recipes.cache.store import Held\n"
            "publish = Held.publish\n"
            "def watched(self, path, receipt):\n"
            f"    with open({str(log)!r}, 'a') as file:\n"
            "        bytes = (self.entry.path / 'disk.raw').read_bytes()\n"
            "        file.write(f'{receipt.kind} {bytes[:3].hex()}\\n')\n"
            "    return publish(self, path, receipt)\n"
            "Held.publish = watched\n"
        )
        assert derived(project, "raw:a", **CI) == chain("a")
        assert log.read_text().split("\n")[:3] == [f"{kind} {old[:3].hex()}" for kind in ("fetch", "content", "raw")]
        assert raw(project, "a") == data

    def test_when_the_new_one_cannot_be_had(self, project: Project, upstream: Upstream) -> None:
        data = upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("raw:a")
        upstream.image("a.raw.gz", "new")
        upstream.sums()
        (upstream.folder / "a.raw.gz").unlink()
        assert project.doit("raw:a", **CI).status == 1
        assert raw(project, "a") == data
        # Status tells without network, as far as the last list does.
        upstream.server.stop()
        (row,) = json.loads(project.ok("status", "--json"))["artifacts"]
        assert (row["kind"], row["state"]) == ("raw", "stale")
        assert "stale" in project.ok("status")

    def test_a_list_that_was_never_seen_makes_nothing_current(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        project.ok("list", "-s")
        assert json.loads(project.ok("status", "--json"))["artifacts"][0]["state"] == "missing"
        assert upstream.asked("SHA256SUMS") == []


@contextmanager
def without_network(project: Project) -> Iterator[Callable[..., Any]]:
    """Run doit in a network namespace without interfaces; none of its sockets may even be opened."""
    need("unshare")
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        lack("a network namespace takes root")
    log = project.folder.parent / "sockets"
    project.hook(
        "import sys\n"
        "def audit(event, arguments):\n"
        "    if event.startswith('socket.'):\n"
        f"        with open({str(log)!r}, 'a') as file:\n"
        "            file.write(f'{event}\\n')\n"
        "sys.addaudithook(audit)\n"
    )
    project.prefix = ("unshare", "--net")
    yield lambda: log.read_text().split() if log.exists() else []
    project.prefix = ()


class TestOffline:
    def test_the_cache_works_and_the_network_is_left_alone(self, project: Project, upstream: Upstream) -> None:
        for name in "ab":
            upstream.image(f"{name}.raw.gz")
            project.follow(name, f"{upstream.url}/{name}.raw.gz", upstream.sums())
        project.ok("raw:a")
        age(project)
        with without_network(project) as sockets:
            assert derived(project, "raw:a", LARDER_OFFLINE="1") == set()
            assert derived(project, "--fresh", "raw:a", LARDER_OFFLINE="1", **CI) == set()
            assert "warning" not in project.ok("raw:a", LARDER_OFFLINE="1")
            result = project.doit("run", "--continue", "raw", LARDER_OFFLINE="1")
            assert result.status == 1
            assert f"fetch:b: {upstream.url}/b.raw.gz: the network is needed, and LARDER_OFFLINE is set" in result.out
            assert sockets() == []
            # The proof would notice.
            assert "warning: using the checksum list" in project.ok("raw:a")
            assert "socket.connect" in sockets()

    def test_a_list_that_was_never_fetched(self, project: Project, upstream: Upstream) -> None:
        upstream.image("a.raw.gz")
        project.follow("a", f"{upstream.url}/a.raw.gz", upstream.sums())
        result = project.doit("raw:a", LARDER_OFFLINE="1")
        assert result.status == 1
        assert f"{upstream.url}/SHA256SUMS was never fetched, and LARDER_OFFLINE is set" in result.out
        assert upstream.asked("SHA256SUMS") == []

    def test_files_need_no_network(self, project: Project) -> None:
        data = gzip.compress(disk("a"))
        url = project.serve("a.raw.gz", data)
        checksums = project.serve("SHA256SUMS", f"{sha256(data)[7:]}  a.raw.gz\n".encode())
        project.follow("a", url, checksums)
        project.ok("raw:a", LARDER_OFFLINE="1")
        assert raw(project, "a") == disk("a")
