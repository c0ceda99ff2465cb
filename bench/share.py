"""Artifacts through a registry on loopback, and what a user would do instead."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests.kit.debian import run
from tests.kit.project import sha256
from tests.kit.servers import docker_registry, nginx

from .measure import Contender, Row
from .rows import ROOT, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .rows import Kit

_GOAL = "1 x, peak < 100 MiB"
#: Runs what follows the folder `$0`, which is removed before.
_WITHOUT = 'rm -rf "$0"; exec "$@"'


@dataclass(frozen=True)
class _Machine:
    """A machine with a cache, and what skopeo would move instead of its artifacts."""

    kit: Kit
    host: str
    folder: Path

    def doit(self, label: str, without: Path, *words: str, cache: str = "cache", project: str = "shared") -> Contender:
        at = ("-f", str(self.folder / project / "dodo.py"))
        command = ("sh", "-ec", _WITHOUT, str(without), sys.executable, "-m", "doit", words[0], *at, *words[1:])
        environ = {"LARDER_CACHE": str(self.folder / cache), "LARDER_ARCH": "x86_64", "CI": "true"}
        return Contender(label, command, environ=environ)

    def skopeo(self, label: str, without: Path, *words: str) -> Contender:
        return Contender(label, ("sh", "-ec", _WITHOUT, str(without), "skopeo", "copy", "-q", *words))

    @property
    def stored(self) -> Path:
        """What the registry has stored."""
        return self.folder / "registry" / "data"

    def archive(self, kind: str) -> Path:
        """Return an OCI archive with the same layer as the artifact of `kind` has in the registry."""
        path = self.folder / f"{kind}.tar"
        receipt = json.loads((self.folder / f"cache/images/debian/x86_64/{kind}.json").read_text())
        source = f"docker://{self.host}/acme/debian:{receipt['key']}"
        run("skopeo", "copy", "-q", "--src-tls-verify=false", source, f"oci-archive:{path}")
        return path


def _machine(kit: Kit) -> _Machine:
    """Return a machine that has pushed wrapper and RAW of the disk to a registry, which runs as long as the row."""
    for tool in ("docker-registry", "nginx", "skopeo"):
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            raise Unavailable(f"{tool} is not installed")
    folder = kit.folder / "share"
    (folder / "nginx").mkdir(parents=True)
    kit.stack.callback(shutil.rmtree, folder)
    qcow2 = kit.variant("zlib.qcow2")
    upstream = kit.stack.enter_context(nginx(qcow2.parent, folder / "nginx"))
    host = kit.stack.enter_context(docker_registry(folder / "registry"))
    image = (
        '[images.debian]\nderive = ["raw"]\n[images.debian.x86_64]\n'
        f'url = "{upstream.url}/{qcow2.name}"\ndigest = "{sha256(qcow2.read_bytes())}"\n'
    )
    for name, head in (("shared", f'[cache]\nregistry = "{host}/acme"\n'), ("alone", "")):
        (folder / name).mkdir()
        (folder / name / "dodo.py").write_bytes((ROOT / "dodo.py").read_bytes())
        (folder / name / "images.toml").write_text(head + image)
    machine = _Machine(kit, host, folder)
    push = machine.doit("", folder / "none", "run", "push:debian", "--kind", "raw", "--kind", "fetch")
    run("env", *(f"{name}={value}" for name, value in push.environ.items()), *push.command)
    return machine


def _push(kind: str, kit: Kit) -> Row:
    machine = _machine(kit)
    path = machine.archive(kind)
    compressing, compressed = (", compressing it", ", compressed before") if kind == "raw" else ("", "")
    ours = machine.doit(
        f"**larder** `push --kind {kind}`{compressing}", machine.stored, "run", "push:debian", "--kind", kind
    )
    rival = machine.skopeo(
        f"`skopeo copy` of the same{compressed}",
        machine.stored,
        "--dest-tls-verify=false",
        f"oci-archive:{path}",
        f"docker://{machine.host}/acme/rival:1",
    )
    return Row(
        _name("push", kind), f"{kind} to a registry on loopback, {kit.title}", (ours,), (rival,), kit.folder, _GOAL
    )


def _pull(kind: str, kit: Kit) -> Row:
    machine = _machine(kit)
    fresh = machine.folder / "fresh"
    at = f"docker://{machine.host}/acme/rival:1"
    run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci-archive:{machine.archive(kind)}", at)
    ours = machine.doit(f"**larder** `{kind}`", fresh, "run", f"{kind}:debian", cache="fresh")
    compressed = ", left compressed" if kind == "raw" else ""
    rival = machine.skopeo(
        f"`skopeo copy` of the same{compressed}", fresh, "--src-tls-verify=false", at, f"dir:{fresh}"
    )
    return Row(
        _name("pull", kind), f"{kind} from a registry on loopback, {kit.title}", (ours,), (rival,), kit.folder, _GOAL
    )


def _name(what: str, kind: str) -> str:
    return what if kind == "fetch" else f"{what}-{kind}"


def _cold(kit: Kit) -> Row:
    machine = _machine(kit)
    fresh = machine.folder / "fresh"
    ours = machine.doit("**`doit raw`** from the registry", fresh, "run", "raw:debian", cache="fresh")
    made = machine.doit(
        "`doit raw`, fetched from nginx and made", fresh, "run", "raw:debian", cache="fresh", project="alone"
    )
    return Row("cold", f"an empty cache → RAW, {kit.title}", (ours,), (made,), kit.folder)


ROWS: dict[str, Callable[[Kit], Row]] = {
    **{_name("push", kind): partial(_push, kind) for kind in ("fetch", "raw")},
    **{_name("pull", kind): partial(_pull, kind) for kind in ("fetch", "raw")},
    "cold": _cold,
}
