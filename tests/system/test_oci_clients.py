"""Images that we write, in the hands of those who load them, and theirs in ours."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tarfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

import pytest

from recipes.formats.io.context import Context
from recipes.formats.oci import archive as oci_archive
from recipes.formats.oci.layers import flatten
from recipes.formats.oci.layout import open_image
from recipes.formats.tar import read as tar_read
from recipes.model import Compression
from tests.kit import trees
from tests.kit.clients import LIMITS, NO_HYBRID, attempt, output, podman_of_its_own
from tests.kit.oci_images import Layout, entry, file, folder, hardlink, symlink, tar, write_folder
from tests.kit.oracles import lack, need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recipes.formats.oci.archive import OciArchive
    from recipes.formats.tree.tree import Tree
    from tests.kit.debian import Debian

pytestmark = pytest.mark.system

NAME = "localhost/debian-12:latest"
RELEASE = ("cat", "/etc/debian_version")
each_compression = pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])


class Made:
    """The image's root file system, in an archive of each compression."""

    def __init__(self, folder: Path, rootfs: Path) -> None:
        self.rootfs = rootfs
        self.folder = folder
        self.written: dict[str, OciArchive] = {}
        with tar_read.load(rootfs) as tree:
            self.facts = trees.of_tree(tree)
            for compression in get_args(Compression):
                self.written[compression] = oci_archive.write(
                    tree,
                    self.path(compression),
                    oci_archive.About("x86_64", NAME, {"org.opencontainers.image.title": "Debian 12"}),
                    Context(jobs=2, limit=1 << 40, durable=False),
                    compression=compression,
                )

    def path(self, compression: str) -> Path:
        return self.folder / f"{compression}.tar"


@pytest.fixture(scope="module")
def made(image: Debian, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("archives")
    yield Made(folder, image.rootfs)
    shutil.rmtree(folder)


@contextmanager
def flat(path: Path, folder: Path) -> Iterator[Tree]:
    """Read the image at `path`, a file or folder."""
    names = itertools.count()
    with open_image(path, arch="x86_64") as image:
        tree = flatten(image, Context(jobs=2, limit=1 << 34, scratch=lambda: folder / f"layer{next(names)}"))
    with tree:
        yield tree


def same(path: Path, made: Made, folder: Path) -> None:
    """Compare the image at `path` with the root file system."""
    with flat(path, folder) as tree:
        assert trees.differences(trees.of_tree(tree), made.facts) == []


@pytest.fixture(scope="module")
def podman() -> Iterator[tuple[str, ...]]:
    with podman_of_its_own() as words:
        yield words


class TestPodman:
    @each_compression
    def test_it_loads_runs_and_saves(
        self, compression: Compression, podman: tuple[str, ...], made: Made, tmp_path: Path
    ) -> None:
        assert NAME in output(*podman, "load", "-i", made.path(compression))
        (found,) = json.loads(output(*podman, "image", "inspect", NAME))
        assert found["Id"] == made.written[compression].config.hex
        assert found["Digest"] == str(made.written[compression].manifest)
        assert found["Labels"] == {"org.opencontainers.image.title": "Debian 12"}
        assert output(*NO_HYBRID, *podman, "run", "--rm", *LIMITS, NAME, *RELEASE).startswith("12")
        # Its default command is a shell, and ping has its capability.
        assert output(*NO_HYBRID, *podman, "run", "--rm", *LIMITS, NAME) == ""
        # Of zstd, which docker's manifests do not know, podman saves no docker-archive.
        for kind in {"gzip": ["oci-archive", "docker-archive"], "zstd": ["oci-archive"]}.get(compression, []):
            output(*podman, "save", "--format", kind, "-o", tmp_path / kind, NAME)
            same(tmp_path / kind, made, tmp_path)
        # The next one has the same id, and would get this one's manifest.
        output(*podman, "rmi", NAME)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    need("dockerd", "docker", "unshare")
    folder = tmp_path_factory.mktemp("docker")
    # Sockets have short paths.
    url = f"unix://{folder}/s"
    command = (
        *("dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec", "-H", url),
        *("-p", folder / "pid", "--iptables=false", "--bridge=none"),
    )
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        client = ("docker", "-H", url)
        for _ in range(150):
            if daemon.poll() is not None or attempt(*client, "version").returncode == 0:
                break
            time.sleep(0.2)
        if daemon.poll() is not None or attempt(*client, "version").returncode:
            lack(f"dockerd does not start: {(folder / 'log').read_text()[-500:]}")
        yield client
    finally:
        daemon.terminate()
        daemon.wait(60)
        shutil.rmtree(folder)


class TestDocker:
    @each_compression
    def test_it_loads_runs_and_saves(
        self, compression: Compression, docker: tuple[str, ...], made: Made, tmp_path: Path
    ) -> None:
        release = int(output(*docker, "version", "--format", "{{.Server.Version}}").partition(".")[0])
        loaded = attempt(*docker, "load", "-i", made.path(compression))
        if compression == "zstd" and release < 23:
            assert loaded.returncode != 0
            assert "invalid tar header" in loaded.stderr
            return
        assert loaded.stdout == f"Loaded image: {NAME}\n"
        (found,) = json.loads(output(*docker, "image", "inspect", NAME))
        assert found["Id"] == str(made.written[compression].config)
        assert output(*docker, "run", "--rm", *LIMITS, NAME, *RELEASE).startswith("12")
        output(*docker, "save", "-o", tmp_path / "saved", NAME)
        same(tmp_path / "saved", made, tmp_path)

    def test_it_imports_the_root_file_system(self, docker: tuple[str, ...], made: Made) -> None:
        output(*docker, "import", made.rootfs, "imported:latest")
        assert output(*docker, "run", "--rm", *LIMITS, "imported:latest", *RELEASE).startswith("12")


class TestSkopeo:
    @pytest.mark.parametrize(
        ("kind", "compression"),
        [("oci-archive", "zstd"), ("oci-archive", "gzip"), ("docker-archive", "gzip"), ("docker-archive", "none")],
    )
    def test_it_reads_and_writes(self, kind: str, compression: Compression, made: Made, tmp_path: Path) -> None:
        need("skopeo")
        path = made.path(compression)
        found = json.loads(output("skopeo", "inspect", f"{kind}:{path}"))
        assert (found["Architecture"], found["Os"], len(found["Layers"])) == ("amd64", "linux", 1)
        if kind == "oci-archive":
            assert found["Digest"] == str(made.written[compression].manifest)
        output("skopeo", "copy", f"{kind}:{path}", f"{kind}:{tmp_path / 'copy'}:{NAME}")
        same(tmp_path / "copy", made, tmp_path)


class TestUmoci:
    @each_compression
    def test_it_unpacks_and_crun_runs(self, compression: Compression, made: Made, tmp_path: Path) -> None:
        need("umoci", "crun", "unshare")
        with tarfile.open(made.path(compression)) as archive:
            archive.extractall(tmp_path / "layout")
        bundle = tmp_path / "bundle"
        unpacked = attempt("umoci", "unpack", "--image", f"{tmp_path / 'layout'}:latest", bundle)
        if compression == "zstd" and unpacked.returncode:
            # Before release 0.5.
            assert "tar+zstd" in unpacked.stderr + unpacked.stdout
            return
        assert unpacked.returncode == 0, unpacked.stderr
        assert trees.differences(trees.of_folder(bundle / "rootfs", skip=frozenset()), made.facts) == []
        spec = json.loads((bundle / "config.json").read_text())
        spec["process"] |= {"terminal": False, "args": list(RELEASE), "rlimits": []}
        spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] != "cgroup"]
        spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "cgroup"]
        (bundle / "config.json").write_text(json.dumps(spec))
        name = f"larder-{os.getpid()}"
        found = output(*NO_HYBRID, "crun", "--cgroup-manager=disabled", "run", "-b", bundle, name)
        assert found.startswith("12")


ROOT = folder("./")
BASE = tar(
    ROOT,
    *(folder(name) for name in ("usr", "usr/lib", "usr/lib/d", "etc", "opt", "opt/deep", "opt/deep/er")),
    *(
        symlink(*each)
        for each in (("lib", "usr/lib"), ("abs", "/usr/lib"), ("up", "../../usr"), ("dangling", "nowhere"))
    ),
    *(
        file(name, name.encode())
        for name in ("usr/lib/a", "usr/lib/b", "usr/lib/d/x", "etc/one", "etc/two", "opt/deep/er/z")
    ),
    hardlink("etc/hard", "etc/one"),
    hardlink("usr/lib/hard", "etc/one"),
    entry("etc/back\\slash", data=b"odd", mode=0o4755),
)

#: What a layer above `BASE` may be; its members in an order, which is part of the case.
CHANGES = {
    "whiteouts": [file("etc/.wh.one"), file("opt/.wh.deep"), file("etc/.wh.nothing")],
    "a whiteout after a file of its layer": [
        folder("opt/deep"),
        file("opt/deep/new"),
        file("opt/.wh.deep"),
        # Its time: umoci deletes in it only now.
        folder("opt/deep"),
    ],
    "opaque": [folder("etc"), file("etc/.wh..wh..opq"), file("etc/new", b"n")],
    "opaque, last": [folder("etc"), file("etc/new", b"n"), file("etc/two", b"mine"), file("etc/.wh..wh..opq")],
    "opaque, of the root": [ROOT, folder("bin"), file("bin/sh", b"sh"), file(".wh..wh..opq")],
    "a file for a directory": [file("opt", b"file")],
    "a directory for a file": [folder("etc/one"), file("etc/one/.wh..wh..opq"), file("etc/one/n", b"n")],
    "a directory for a link": [folder("lib"), file("lib/n", b"n")],
    "a link for a directory": [symlink("etc", "opt")],
    "a directory again": [folder("etc", 0o700), file("etc/three", b"3")],
    "a file again": [file("etc/two", b"other")],
    "below links": [file("lib/.wh.a"), file("abs/n", b"n"), file("up/lib/.wh.b"), file("lib/d/m", b"m")],
    "opaque below a link": [file("lib/.wh..wh..opq"), file("lib/n", b"n")],
    "the link itself": [file(".wh.lib"), file(".wh.dangling")],
    "a hard link to a layer below": [hardlink("opt/again", "etc/one")],
    "the target of hard links replaced": [file("etc/one", b"another")],
    "the target of hard links deleted": [file("etc/.wh.one")],
    "a hard link to what is replaced": [file("etc/one", b"another"), hardlink("opt/again", "etc/one")],
    "a hard link to what is deleted later": [hardlink("opt/again", "etc/two"), file("etc/.wh.two")],
    "a hard link replaced": [file("etc/hard", b"alone")],
    "the same name twice": [file("etc/two", b"first"), file("etc/two", b"second")],
}


class TestLayersAsUmociAppliesThem:
    """Everything that the specification leaves open, too."""

    @staticmethod
    def compare(layout: Path, folder: Path) -> None:
        need("umoci")
        bundle = folder / "bundle"
        output("umoci", "unpack", "--image", f"{layout}:latest", bundle)
        with flat(layout, folder) as tree:
            found, expected = trees.of_tree(tree), trees.of_folder(bundle / "rootfs", skip=frozenset())
        assert trees.differences(found, expected) == []

    @staticmethod
    def layout(path: Path, *layers: bytes, suffix: str = "") -> Path:
        made = Layout()
        image = made.image(*layers, suffix=suffix, annotations={"org.opencontainers.image.ref.name": "latest"})
        made.files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [image]}).encode()
        return write_folder(path, made.files)

    @pytest.mark.parametrize("change", CHANGES)
    def test_one_above_another(self, change: str, tmp_path: Path) -> None:
        self.compare(self.layout(tmp_path / "layout", BASE, tar(*CHANGES[change])), tmp_path)

    @pytest.mark.parametrize("suffix", ["", "+gzip"])
    def test_all_above_one_another(self, suffix: str, tmp_path: Path) -> None:
        layers = [layer for members in CHANGES.values() for layer in (BASE, tar(*members))]
        self.compare(self.layout(tmp_path / "layout", *layers, suffix=suffix), tmp_path)

    def test_what_umoci_writes(self, tmp_path: Path) -> None:
        layout = self.layout(tmp_path / "layout", BASE)
        bundle = tmp_path / "first"
        image = f"{layout}:latest"
        output("umoci", "unpack", "--image", image, bundle)
        root = bundle / "rootfs"
        (root / "etc/two").unlink()
        (root / "etc/three").write_bytes(b"3" * 100_000)
        (root / "etc/four").hardlink_to(root / "etc/three")
        (root / "usr/lib/b").unlink()
        (root / "usr/lib/b").mkdir()
        (root / "usr/lib/b/x").symlink_to("/etc/one")
        shutil.rmtree(root / "opt/deep")
        (root / "opt/deep").write_bytes(b"file")
        (root / "etc/one").chmod(0o600)
        os.setxattr(root / "etc/three", "user.color", b"blue")
        output("umoci", "repack", "--image", image, bundle)
        output("umoci", "insert", "--image", image, "--opaque", root / "etc", "/usr")
        shutil.rmtree(bundle)
        self.compare(layout, tmp_path)
