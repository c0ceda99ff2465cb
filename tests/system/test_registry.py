"""Images from docker's own registry: open, with a password, with TLS; pushed by skopeo, read by podman and umoci."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from recipes.formats.tar import read as tar_read
from recipes.sources.http import READ_SIZE
from tests.kit.oracles import lack, need
from tests.kit.registries import AMD64, ARM64, Document, image, index, layer, write_layout
from tests.kit.servers import docker_registry, self_signed
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.kit.project import Project

pytestmark = pytest.mark.system

NAME = "acme/thing:1"


def run(*command: str | Path, **environ: str) -> str:
    need(str(command[0]))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **environ})
    return done.stdout


def changes(*members: tuple[str, bytes | None], **links: str) -> bytes:
    """Return a layer with these files, folders (None) and hard links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.mtime = 1_700_000_000
            if data is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            else:
                member.size = len(data)
            tar.addfile(member, io.BytesIO(data or b""))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mtime = tarfile.LNKTYPE, target, 1_700_000_000
            tar.addfile(member)
    return out.getvalue()


LAYERS = (
    changes(
        ("etc", None),
        ("etc/os-release", b"ID=test\n"),
        ("old", None),
        ("old/a", b"a" * 5000),
        ("old/b", b"b"),
        ("turned", None),
        ("turned/c", b"c"),
        ("data", os.urandom(3 * READ_SIZE)),
        hard="etc/os-release",
    ),
    changes(("old", None), ("old/.wh.a", b""), ("turned", b"a file now"), ("new", None), ("new/d", b"d")),
    changes(("old", None), ("old/.wh..wh..opq", b""), ("old/e", b"e"), ("etc", None), ("etc/os-release", b"ID=x\n")),
)


def push(registry: str, folder: Path, document: Document, *below: Document, options: tuple[str, ...] = ()) -> str:
    """Push an image; return its digest in the registry."""
    write_layout(folder, document, *below)
    target = f"docker://{registry}/{NAME}"
    run("skopeo", "copy", "--all", "--preserve-digests", *options, f"oci:{folder}:t", target)
    return document.digest


OPEN = ("--dest-tls-verify=false",)


@pytest.fixture
def ours(project: Project, tmp_path: Path) -> Project:
    """A project of somebody who is logged in nowhere."""
    project.environ["DOCKER_CONFIG"] = str(tmp_path / "docker")
    (tmp_path / "docker").mkdir()
    return project


def declare(project: Project, registry: str, what: str = "", **settings: Any) -> None:
    url = f"oci://{registry}/{NAME}{what}"
    project.declared["thing"] = {"derive": ["fetch"], "source": {"url": url}, **settings}
    project.write()


def wrapper(project: Project) -> Path:
    return project.entry("thing") / "wrapper"


def test_what_clients_make_of_the_archive(ours: Project, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        digest = push(registry, tmp_path / "layout", image(*LAYERS), options=OPEN)
        declare(ours, registry)
        ours.ok("fetch:thing")
        assert ours.executed("fetch:thing", CI="true") == {_list(ours)}
    inspected = json.loads(run("skopeo", "inspect", f"oci-archive:{wrapper(ours)}"))
    assert inspected["Digest"] == digest
    assert len(inspected["Layers"]) == 3
    with _podman() as podman:
        loaded = run(*podman, "load", "-q", "-i", wrapper(ours)).strip().rpartition(":")[2]
        (found,) = json.loads(run(*podman, "image", "inspect", loaded))
        assert found["Digest"] == digest


def _list(project: Project) -> str:
    (kept,) = (project.cache / "lists").iterdir()
    return f"_sums:{kept.stem}"


@contextmanager
def _podman() -> Iterator[tuple[str, ...]]:
    need("podman")
    # Its runroot has at most 50 characters.
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield ("podman", "--root", f"{folder}/storage", "--runroot", f"{folder}/run")
        finally:
            # It leaves its storage mounted on itself.
            subprocess.run(["umount", "--recursive", f"{folder}/storage/overlay"], capture_output=True, check=False)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_rootfs_is_the_one_that_umoci_unpacks(ours: Project, tmp_path: Path, compressed: bool) -> None:
    need("umoci", "skopeo")
    if os.getuid() != 0:
        lack("unpacking an image with its owners takes root")
    with docker_registry(tmp_path / "registry") as registry:
        # skopeo compresses layers that are not, unless it has to keep their digests.
        write_layout(tmp_path / "layout", image(*LAYERS))
        kept = () if compressed else ("--preserve-digests",)
        run("skopeo", "copy", *OPEN, *kept, f"oci:{tmp_path / 'layout'}:t", f"docker://{registry}/{NAME}")
        declare(ours, registry, derive=["rootfs"])
        ours.ok("rootfs:thing")
        run("skopeo", "copy", "--src-tls-verify=false", f"docker://{registry}/{NAME}", f"oci:{tmp_path / 'back'}:t")
    run("umoci", "unpack", "--image", f"{tmp_path / 'back'}:t", tmp_path / "bundle")
    with tar_read.load(ours.entry("thing") / "rootfs.tar") as tree:
        found = of_tree(tree)
    expected = of_folder(tmp_path / "bundle" / "rootfs")
    # An image need not have an entry for its root, and this one has none.
    found.pop(b"", None)
    expected.pop(b"", None)
    assert not differences(found, expected)
    assert b"old/e" in found
    assert b"old/b" not in found


def test_the_machine_s_own_of_several(ours: Project, tmp_path: Path) -> None:
    amd, arm = image(layer({"a": b"amd"})), image(layer({"a": b"arm"}), arch="arm64")
    with docker_registry(tmp_path / "registry") as registry:
        push(registry, tmp_path / "layout", index((arm, ARM64), (amd, AMD64)), amd, arm, options=OPEN)
        declare(ours, registry)
        ours.ok("fetch:thing")
    assert ours.receipt("thing", "fetch")["identity"]["digest"] == amd.digest


def test_a_moved_tag(ours: Project, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        one = push(registry, tmp_path / "one", image(layer({"a": b"1"})), options=OPEN)
        declare(ours, registry)
        ours.ok("fetch:thing")
        two = push(registry, tmp_path / "two", image(layer({"a": b"2"})), options=OPEN)
        assert {"resolve:thing", "fetch:thing"} < ours.executed("fetch:thing", CI="true")
        assert ours.receipt("thing", "fetch")["identity"]["digest"] == two
        declare(ours, registry, f"@{one}")
        ours.ok("fetch:thing")
        assert ours.receipt("thing", "fetch")["identity"]["digest"] == one
        assert two in ours.ok("update")


def test_a_download_that_was_begun(ours: Project, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        push(registry, tmp_path / "layout", image(*LAYERS), options=OPEN)
        declare(ours, registry)
        ours.ok("fetch:thing")
        whole = wrapper(ours).read_bytes()
        wrapper(ours).rename(wrapper(ours).with_name("wrapper.part"))
        os.truncate(wrapper(ours).with_name("wrapper.part"), len(whole) // 2)
        row = json.loads(ours.ok("plan", "--json", "fetch:thing"))["images"][0]
        assert (row["wrapper_size"], row["download"]) == (len(whole), len(whole) - len(whole) // 2)
        ours.ok("fetch:thing")
    assert wrapper(ours).read_bytes() == whole


class TestAPassword:
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
        """A registry with TLS for somebody, and what makes its certificate trusted."""
        need("htpasswd", "skopeo")
        _, certificate = self_signed(tmp_path)
        users = tmp_path / "users"
        users.write_text(run("htpasswd", "-Bbn", "somebody", "secret"))
        tls = (certificate, tmp_path / "key.pem")
        with docker_registry(tmp_path / "registry", htpasswd=users, tls=tls) as host:
            options = (*OPEN, "--dest-creds", "somebody:secret")
            push(host, tmp_path / "layout", image(*LAYERS), options=options)
            yield host, {"REQUESTS_CA_BUNDLE": str(certificate)}

    def test_from_skopeo_login(self, ours: Project, registry: tuple[str, Mapping[str, str]]) -> None:
        host, trusted = registry
        config = f"{ours.environ['DOCKER_CONFIG']}/config.json"
        # It writes docker's file where it is told the name of that.
        run("skopeo", "login", "--authfile", config, "--tls-verify=false", "-u", "somebody", "-p", "secret", host)
        declare(ours, host)
        ours.ok("fetch:thing", **trusted)
        assert wrapper(ours).exists()

    def test_from_a_helper(self, ours: Project, registry: tuple[str, Mapping[str, str]], tmp_path: Path) -> None:
        host, trusted = registry
        helper = tmp_path / "bin" / "docker-credential-tests"
        helper.parent.mkdir()
        answer = json.dumps({"ServerURL": host, "Username": "somebody", "Secret": "secret"})
        helper.write_text(f"#!/bin/sh\n[ \"$1 $(cat)\" = 'get {host}' ] && echo '{answer}'\n")
        helper.chmod(0o755)
        (tmp_path / "docker" / "config.json").write_text(json.dumps({"credHelpers": {host: "tests"}}))
        declare(ours, host)
        ours.ok("fetch:thing", PATH=f"{helper.parent}:{os.environ['PATH']}", **trusted)
        assert wrapper(ours).exists()

    def test_nobody(self, ours: Project, registry: tuple[str, Mapping[str, str]]) -> None:
        host, trusted = registry
        declare(ours, host)
        result = ours.doit("fetch:thing", **trusted)
        assert result.status != 0
        said = result.out + result.err
        assert "401 Unauthorized: UNAUTHORIZED: authentication required" in said
        assert f"`docker login {host}`" in said
        assert "Traceback" not in said

    def test_a_certificate_that_nobody_knows(self, ours: Project, registry: tuple[str, Mapping[str, str]]) -> None:
        host, _ = registry
        declare(ours, host)
        result = ours.doit("fetch:thing")
        assert result.status != 0
        assert "the server's certificate was refused" in result.out + result.err
        assert "REQUESTS_CA_BUNDLE" in result.out + result.err
