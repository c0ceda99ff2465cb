"""Disks in docker's own registry, put there by skopeo, by hand and by larder itself, and what becomes of them."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import requests
import zstandard

from tests.kit.oracles import need
from tests.kit.registries import Document, image, layer, write_layout
from tests.kit.registry_disks import artifact, listing
from tests.kit.servers import docker_registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project

pytestmark = pytest.mark.system

DISK = random.Random(1).randbytes(1 << 20) + bytes(3 << 20)
OTHER = random.Random(2).randbytes(1 << 20)


def run(*command: str | Path) -> None:
    need(str(command[0]))
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def qcow2(folder: Path) -> bytes:
    (folder / "disk.raw").write_bytes(DISK)
    run("qemu-img", "convert", "-c", "-O", "qcow2", folder / "disk.raw", folder / "disk.qcow2")
    return (folder / "disk.qcow2").read_bytes()


def podman(folder: Path) -> tuple[Document, ...]:
    """Return an index of machine images, and what is in it."""
    raw, other = artifact(zstandard.compress(DISK), titles=("machine.raw.zst",)), artifact(OTHER)
    x86 = {"os": "linux", "architecture": "x86_64"}
    arm = {"os": "linux", "architecture": "aarch64"}
    entries = [
        {**document.descriptor(platform), "annotations": {"disktype": disktype}}
        for document, platform, disktype in ((other, x86, "tar"), (raw, x86, "raw"), (other, arm, "raw"))
    ]
    return listing(*entries), raw, other


def coreos(folder: Path) -> tuple[Document, ...]:
    qemu, metal = artifact(qcow2(folder), titles=("qemu.qcow2",)), artifact(OTHER)
    entries = [
        {
            **document.descriptor({"os": purpose, "architecture": "amd64"}),
            "artifactType": f"application/vnd.diskimage.{kind}",
        }
        for document, purpose, kind in ((metal, "metal", "raw.gzip"), (qemu, "qemu", "qcow2"))
    ]
    return listing(*entries), qemu, metal


def kubevirt(folder: Path) -> tuple[Document, ...]:
    one = artifact(zstandard.compress(DISK), names=("rootdisk",), types=("application/vnd.kubevirt.disk.raw+zstd",))
    return listing(one.descriptor({"os": "linux", "architecture": "amd64"})), one


def oras(folder: Path) -> tuple[Document, ...]:
    return (artifact(qcow2(folder), titles=("disk.qcow2",), artifact_type="application/vnd.unknown.artifact.v1"),)


def by_hand(repository: str, document: Document, *below: Document) -> None:
    """Push to a repository, `document` as the tag 1 (distribution-spec 1.1, "Push")."""
    with requests.Session() as session:
        session.trust_env = False
        for one in below:
            for digest, data in one.blobs.items():
                upload = session.post(f"{repository}/blobs/uploads/")
                done = session.put(upload.headers["Location"], params={"digest": digest}, data=data)
                done.raise_for_status()
        for one, name in (*((each, each.digest) for each in below), (document, "1")):
            headers = {"Content-Type": one.media_type}
            session.put(f"{repository}/manifests/{name}", data=one.data, headers=headers).raise_for_status()


@pytest.fixture
def ours(project: Project, tmp_path: Path) -> Project:
    """A project of somebody who is logged in nowhere."""
    project.environ["DOCKER_CONFIG"] = str(tmp_path / "docker")
    (tmp_path / "docker").mkdir()
    return project


def declare(project: Project, url: str, **more: Any) -> None:
    project.declared["thing"] = {"kind": "disk", "derive": ["raw"], "source": {"url": url}, **more}
    project.write()


def container(folder: Path) -> tuple[Document, ...]:
    """Return a containerDisk in two layers, of which the upper one takes another disk away."""
    lower, upper = (
        layer({"disk/old.img": OTHER, "other": b"x"}),
        layer({"disk/.wh.old.img": b"", "disk/a": qcow2(folder)}),
    )
    return (image(lower, upper),)


@pytest.mark.parametrize("shape", [podman, coreos, kubevirt, oras, container])
def test_as_others_put_them(ours: Project, tmp_path: Path, shape: Any) -> None:
    document, *below = shape(tmp_path)
    write_layout(tmp_path / "layout", document, *below)
    with docker_registry(tmp_path / "registry") as registry:
        if shape is coreos:
            # skopeo 1.9 refuses to copy such an index with its digests as they are ("must be converted").
            by_hand(f"http://{registry}/v2/acme/thing", document, *below)
        else:
            target = f"docker://{registry}/acme/thing:1"
            options = ("--all", "--preserve-digests", "--dest-tls-verify=false")
            run("skopeo", "copy", *options, f"oci:{tmp_path / 'layout'}:t", target)
        declare(ours, f"oci://{registry}/acme/thing:1")
        ours.ok("raw:thing")
        assert (ours.entry("thing") / "disk.raw").read_bytes() == DISK
        # A cache that has it asks nobody.
        ours.ok("raw:thing", LARDER_OFFLINE="1")


def test_as_larder_shares_them(ours: Project, tmp_path: Path) -> None:
    """What one project pushed is what another one declares, which knows nothing of the first."""
    ours.declare("thing", DISK, derive=["raw"])
    with docker_registry(tmp_path / "registry") as registry:
        ours.write(f'[cache]\nregistry = "http://{registry}/acme"\n')
        ours.ok("push:thing")
        declare(ours, f"oci://{registry}/acme/thing:latest")
        ours.environ["LARDER_CACHE"] = str(tmp_path / "another")
        ours.ok("raw:thing")
        found = [path for path in (tmp_path / "another").rglob("disk.raw") if path.is_file()]
    assert [path.read_bytes() for path in found] == [DISK]
    assert found[0].stat().st_size == len(DISK)
