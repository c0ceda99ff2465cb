"""rootfs, vhdx and oci through the real `doit` program: what runs, what stays, and that the same comes out again."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from recipes.derive.oci import reference
from recipes.formats.fs import root as disk_tree
from recipes.formats.io.blkhash import of_file
from recipes.formats.tar import read as tar_read
from recipes.progress import SILENT_METER
from tests.kit.oracles import need
from tests.kit.project import Project, sha256
from tests.kit.trees import differences, of_tree

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"etc/os-release": b"ID=test\n", "etc/passwd": b"root:x:0:0::/root:/bin/sh\n", "bin/sh": b"\x7fELF" * 4096}


def tarball(**more: bytes) -> bytes:
    """Return a small root file system, its members in an order of their own."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in reversed({**FILES, **more}.items()):
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode, member.mtime, member.uid = len(data), 0o755, 1_700_000_000, 7
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


WRAPPED = gzip.compress(tarball(), mtime=0)


@pytest.fixture
def rootfs(project: Project) -> Project:
    project.declare("a", WRAPPED, "a.tar.gz", **{"vhdx-size": "64MiB"})
    return project


def test_each_is_derived_once_and_what_was_passed_through_goes(rootfs: Project) -> None:
    chain = {"resolve:a", "fetch:a", "content:a", "rootfs:a"}
    assert rootfs.executed("vhdx:a") == chain | {"vhdx:a"}
    # A project keeps the archive of a tarball unless it says otherwise.
    assert rootfs.files("a") == {"rootfs.tar", "rootfs.json", "disk.vhdx", "vhdx.json"}
    assert rootfs.executed("vhdx:a") == set()
    assert rootfs.executed("oci:a") == {"oci:a"}
    rootfs.declare("a", WRAPPED, "a.tar.gz", derive=["oci"])
    rootfs.ok("clean", "vhdx:a")
    rootfs.ok("oci:a")
    assert rootfs.files("a") == {"oci.tar", "oci.json"}


def test_a_parameter_rebuilds_what_it_is_for(rootfs: Project) -> None:
    rootfs.ok("rootfs", "vhdx", "oci")
    for parameters, again in (
        ({"vhdx-size": "128MiB"}, {"vhdx:a"}),
        ({"vhdx-size": "128MiB", "oci-compression": "none"}, {"oci:a"}),
        ({"vhdx-size": "128MiB", "oci-compression": "none", "title": "Another"}, {"oci:a"}),
    ):
        rootfs.declare("a", WRAPPED, "a.tar.gz", **parameters)
        assert rootfs.executed("rootfs", "vhdx", "oci") == again


def test_a_changed_upstream_rebuilds_all(rootfs: Project) -> None:
    rootfs.ok("vhdx:a", "oci:a")
    rootfs.declare("a", gzip.compress(tarball(new=b"1"), mtime=0), "a.tar.gz", **{"vhdx-size": "64MiB"})
    kinds = ("fetch", "content", "rootfs", "vhdx", "oci")
    assert rootfs.executed("vhdx:a", "oci:a") == {"resolve:a", *(f"{kind}:a" for kind in kinds)}


def test_the_same_comes_out_again(rootfs: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    rootfs.ok("rootfs", "vhdx", "oci")
    other = Project(tmp_path_factory.mktemp("other"))
    other.declared = rootfs.declared
    other.write()
    other.ok("rootfs", "vhdx", "oci")
    for kind, file in (("rootfs", "rootfs.tar"), ("vhdx", "disk.vhdx"), ("oci", "oci.tar")):
        data = (rootfs.entry("a") / file).read_bytes()
        assert data == (other.entry("a") / file).read_bytes()
        artifact = rootfs.receipt("a", kind)["artifact"]
        if kind == "rootfs":
            assert artifact["digest"] == sha256(data)
        else:
            # What stands first in these files is written last.
            assert artifact["digest"] is None
            found = of_file(rootfs.entry("a") / file, jobs=1, meter=SILENT_METER)
            assert artifact["blkhash"]["hex"] == found.hex
    assert "ok       vhdx:a" in rootfs.ok("verify")


def test_a_disk_has_a_root_file_system_too(project: Project, tmp_path: Path) -> None:
    need("mke2fs")
    tree = tmp_path / "tree"
    for name, data in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    image = tmp_path / "disk.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "16M"], check=True)
    project.declare("d", image.read_bytes(), "d.img", derive=["rootfs"])
    assert project.executed("rootfs:d") == {f"{task}:d" for task in ("resolve", "fetch", "content", "raw", "rootfs")}
    assert project.files("d") == {"rootfs.tar", "rootfs.json"}
    with disk_tree.load(image) as disk, tar_read.load(project.entry("d") / "rootfs.tar") as made:
        assert differences(of_tree(made), of_tree(disk)) == []


def test_what_is_no_root_file_system_is_refused(project: Project) -> None:
    project.declare("a", bytes(1 << 20), "a.img")
    project.declare("b", tarball()[:6000], "b.tar")
    for name in "ab":
        result = project.doit("rootfs:" + name)
        assert result.status == 1
        assert f"rootfs:{name}: " in result.out
        assert "Traceback" not in result.out + result.err
        assert "rootfs.tar" not in project.files(name)


def test_plan_knows_the_kinds(rootfs: Project) -> None:
    assert "fetch content rootfs vhdx" in rootfs.ok("plan", "vhdx:a")


def test_help_shows_the_next_command(rootfs: Project) -> None:
    rootfs.ok("oci:a")
    path = rootfs.entry("a") / "oci.tar"
    assert f"podman load -i {path}\n" in rootfs.ok("help", "oci:a")
    assert "wsl.exe --import-in-place a " in rootfs.ok("help", "vhdx:a")
    assert "larder help KIND:IMAGE" in rootfs.ok("help")
    assert "KIND:IMAGE" in rootfs.ok("help", "path")
    unknown = rootfs.doit("help", "vhdx:b")
    assert (unknown.status, unknown.err) == (3, "ERROR: vhdx:b: images.toml declares no image 'b'\n")


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("debian-12", "debian-12"),
        ("a+b", "a-b"),
        ("9.5_+x.", "9.5-x"),
        ("a___b..c", "a-b-c"),
        ("v1.2-rc--3", "v1.2-rc--3"),
    ],
)
def test_every_name_has_a_reference(name: str, component: str) -> None:
    assert reference(name) == f"localhost/{component}:latest"


@pytest.mark.parametrize("file", ["a.img", "a.tar.gz"])
def test_a_tarball_of_a_root_is_no_disk(project: Project, file: str) -> None:
    """What is declared counts, whatever the name ends with; and then what there is."""
    project.declare("a", WRAPPED, file, kind="disk")
    result = project.doit("raw:a")
    assert result.status == 1
    assert "expected one disk in the archive, found " in result.out + result.err
    assert 'A root file system in a tarball is kind = "rootfs"' in result.out + result.err
    assert "Traceback" not in result.out + result.err
    assert not {"raw", "raw.json"} & project.files("a")
