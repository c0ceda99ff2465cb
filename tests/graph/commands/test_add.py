"""`larder add`: from the catalogue, and from urls of a real nginx with every shape of list beside them."""

from __future__ import annotations

import gzip
import json
import os
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import upstreams
from tests.kit.oci_images import write_tar
from tests.kit.project import Project, disk, sha256
from tests.kit.registries import Fake, image, index, layer
from tests.kit.registry_disks import artifact, listing
from tests.kit.servers import misbehaving, nginx
from tests.kit.signer import home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.servers import Nginx

SHAPES = [
    *("SHA256SUMS", "SHA512SUMS", "CHECKSUM", "CHECKSUM.sha256", "FILE.sha256", "FILE.sha512", "FILE.sha256sum"),
    *("sha256sum.txt", "STEM.json", "STEM-1.2-CHECKSUM"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def server(root: Path, tmp_path: Path) -> Iterator[Nginx]:
    prefix = tmp_path / "nginx"
    prefix.mkdir()
    with nginx(root, prefix, server="autoindex on;") as running:
        yield running


def declared(project: Project, name: str, arch: str = "x86_64") -> dict[str, Any]:
    document = tomllib.loads((project.folder / "images.toml").read_text())
    found: dict[str, Any] = document["images"][name][arch]
    return found


class TestFromAUrl:
    @pytest.mark.parametrize("name", SHAPES)
    def test_the_list_beside_it_is_found(self, name: str, bare: Project, root: Path, server: Nginx) -> None:
        file = root / "disk-amd64.img.gz"
        file.write_bytes(gzip.compress(disk("b")))
        list_name = upstreams.shape(name, file)
        before = (bare.folder / "images.toml").read_text()
        said = bare.larder_ok("add", "b", f"{server.url}/disk-amd64.img.gz")
        found = declared(bare, "b")
        assert found["checksums"] == f"{server.url}/{list_name}"
        assert found["size"] == file.stat().st_size
        assert found["digest"].startswith("sha512:" if "512" in name else "sha256:")
        assert (bare.folder / "images.toml").read_text().startswith(before)
        assert '+[images.b.x86_64]\n+url = "' in said
        bare.larder_ok("b")
        assert (bare.entry("b") / "disk.raw").read_bytes() == disk("b")

    def test_update_follows_it(self, bare: Project, root: Path, server: Nginx) -> None:
        file = root / "disk-x86_64.img"
        file.write_bytes(disk("b"))
        upstreams.shape("SHA256SUMS", file)
        bare.larder_ok("add", "b", f"{server.url}/disk-x86_64.img")
        assert bare.larder("update", "--check", "b").status == 0
        file.write_bytes(disk("newer"))
        upstreams.shape("SHA256SUMS", file)
        # nginx knows a file by its size and the second that it was written in.
        os.utime(root / "SHA256SUMS", (0, 0))
        bare.larder_ok("update", "b")
        assert declared(bare, "b")["digest"] == sha256(disk("newer"))

    def test_where_no_list_names_it(self, bare: Project, root: Path, server: Nginx) -> None:
        (root / "disk.img").write_bytes(disk("b"))
        (root / "SHA256SUMS").write_text(f"{'0' * 64}  other.img\n")
        before = (bare.folder / "images.toml").read_bytes()
        result = bare.larder("add", "b", f"{server.url}/disk.img")
        assert result.status == 1
        for way in ("no list beside it names it", "--digest sha256:HEX", "--trust-first-use"):
            assert way in result.err
        assert (bare.folder / "images.toml").read_bytes() == before

    def test_the_digest_may_be_known_from_elsewhere(self, bare: Project, root: Path, server: Nginx) -> None:
        (root / "disk.img").write_bytes(disk("b"))
        url = f"{server.url}/disk.img"
        said = bare.larder_ok("add", "b", url, "--digest", sha256(disk("b")))
        assert "nothing says which machines it is for: taken for x86_64" in said
        assert "checksums" not in declared(bare, "b")
        bare.larder_ok("raw:b")
        upstreams.shape("SHA256SUMS", root / "disk.img")
        result = bare.larder("add", "c", url, "--digest", sha256(b"other"))
        assert result.status == 1
        assert "not sha256:" in result.err
        assert bare.larder("add", "c", url, "--digest", "md5:0").status == 3

    def test_first_use_downloads_once(self, bare: Project, root: Path, server: Nginx) -> None:
        (root / "disk.img").write_bytes(disk("b"))
        said = bare.larder_ok("add", "b", f"{server.url}/disk.img", "--trust-first-use")
        assert f"trusted on first use: no list names it, and {sha256(disk('b'))} is what came" in said
        bare.larder_ok("raw:b")
        log = server.log()
        assert sum(line.endswith("/disk.img") and line.split()[1] == str(len(disk("b"))) for line in log) == 1

    def test_kind_and_architecture(self, bare: Project, root: Path, server: Nginx) -> None:
        # Neither name says what it is; one of them is a tar, which its first bytes tell.
        import io
        import tarfile

        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("etc"))
        (root / "arm64").mkdir()
        (root / "arm64" / "root").write_bytes(archive.getvalue())
        upstreams.shape("SHA256SUMS", root / "arm64" / "root")
        said = bare.larder_ok("add", "b", f"{server.url}/arm64/root")
        assert "`larder --arch aarch64 b` makes what it says" in said
        assert tomllib.loads((bare.folder / "images.toml").read_text())["images"]["b"]["kind"] == "rootfs"
        assert declared(bare, "b", "aarch64")["url"] == f"{server.url}/arm64/root"
        result = bare.larder("add", "c", f"{server.url}/arm64/SHA256SUMS", "--trust-first-use")
        assert result.status == 1
        assert "expected a disk image or an archive, found" in result.err

    def test_several_architectures_at_once_or_later(self, bare: Project, root: Path, server: Nginx) -> None:
        for arch in ("amd64", "arm64"):
            (root / f"disk-{arch}.img").write_bytes(disk(arch))
        files = sorted(root.iterdir())
        (root / "SHA256SUMS").write_text(upstreams.sums("sha256", *files))
        urls = [f"{server.url}/{file.name}" for file in files]
        bare.larder_ok("add", "b", *urls)
        bare.larder_ok("add", "c", urls[0])
        bare.larder_ok("add", "c", urls[1])
        for name in ("b", "c"):
            assert declared(bare, name, "aarch64")["digest"] == sha256(disk("arm64"))
            assert declared(bare, name, "x86_64")["digest"] == sha256(disk("amd64"))
        result = bare.larder("add", "c", urls[1])
        assert result.status == 1
        assert "c is declared in images.toml already, for aarch64" in result.err

    @pytest.mark.parametrize("name", ["Debian", "a/b", "status", "https://h.example/a.img"])
    def test_a_name_that_cannot_be(self, name: str, bare: Project) -> None:
        result = bare.larder("add", name, "https://127.0.0.1:9/disk.img")
        assert result.status == 3
        assert result.err.startswith(f"ERROR: {name}: ")

    def test_a_signed_list(self, bare: Project, root: Path, server: Nginx) -> None:
        (root / "disk.img").write_bytes(disk("b"))
        upstreams.shape("SHA256SUMS", root / "disk.img")
        with home() as signer:
            signer.make("upstream")
            signer.make("stranger")
            data = (root / "SHA256SUMS").read_bytes()
            (root / "SHA256SUMS.gpg").write_bytes(signer.sign("upstream", data=data))
            for name in ("upstream", "stranger"):
                (bare.folder / f"{name}.gpg").write_bytes(signer.export(name))
        url = f"{server.url}/disk.img"
        said = bare.larder_ok("add", "b", url)
        assert "the list is signed: --keyring FILE" in said
        assert f'# signature = "{server.url}/SHA256SUMS.gpg"' in (bare.folder / "images.toml").read_text()
        bare.larder_ok("add", "c", url, "--keyring", "upstream.gpg")
        found = declared(bare, "c")
        assert (found["signature"], found["keyring"]) == (f"{server.url}/SHA256SUMS.gpg", "upstream.gpg")
        assert bare.larder("add", "d", url, "--keyring", "stranger.gpg").status == 1
        bare.larder_ok("raw:c")

    def test_a_server_that_cannot_say(self, bare: Project, root: Path) -> None:
        def behave(exchange: Any) -> None:
            if exchange.path == "/disk.img":
                exchange.reply(200, disk("b"))
            else:
                exchange.reply(500)

        bare.hook("from recipes.sources import retry\nretry.BACKOFF = 0.001\n")
        with misbehaving(behave) as broken:
            result = bare.larder("add", "b", f"{broken.url}/disk.img", "--trust-first-use")
        assert result.status == 1
        assert "500" in result.err

    def test_what_is_not_there(self, bare: Project, server: Nginx) -> None:
        url = f"{server.url}/none.qcow2"
        result = bare.larder("add", "none", url)
        assert (result.status, result.err) == (1, f"none.qcow2: {url}: 404 Not Found\n")

    def test_for_scripts(self, bare: Project, root: Path, server: Nginx) -> None:
        (root / "disk.img").write_bytes(disk("b"))
        upstreams.shape("SHA256SUMS", root / "disk.img")
        before = (bare.folder / "images.toml").read_bytes()
        document = json.loads(bare.larder_ok("add", "b", f"{server.url}/disk.img", "--json", "--dry-run"))
        assert document["found"] == [
            {
                "url": f"{server.url}/disk.img",
                "kind": "disk",
                "arches": ["x86_64"],
                "digest": sha256(disk("b")),
                "size": len(disk("b")),
                "checksums": f"{server.url}/SHA256SUMS",
                "signature": None,
                "verified": False,
            }
        ]
        assert (document["added"], document["written"]) == (["b"], False)
        assert "+[images.b.x86_64]" in document["diff"]
        assert (bare.folder / "images.toml").read_bytes() == before


class TestFromARegistry:
    def test_the_tag_is_pinned_and_followed(self, bare: Project) -> None:
        fake = Fake()
        one, other = (fake.add(image(layer({"etc/os-release": b"ID=x\n"}), arch=arch)) for arch in ("amd64", "arm64"))
        both = fake.add(
            index((one, {"os": "linux", "architecture": "amd64"}), (other, {"os": "linux", "architecture": "arm64"})),
            "1.2",
        )
        with misbehaving(fake) as server:
            url = f"oci://{server.url.removeprefix('http://')}/acme/thing:1.2"
            bare.larder_ok("add", "b", url)
            for arch in ("x86_64", "aarch64"):
                assert declared(bare, "b", arch) == {"url": f"{url}@{both.digest}"}
            bare.larder_ok("rootfs:b")
            assert bare.larder("update", "--check", "b").status == 0

    def test_a_disk_is_declared_as_one(self, bare: Project) -> None:
        fake = Fake()
        one, other = (fake.add(artifact(disk(each), titles=(f"{each}.raw",))) for each in ("a", "b"))
        fake.add(
            listing(
                *(
                    {**each.descriptor({"os": "linux", "architecture": arch}), "annotations": {"disktype": "raw"}}
                    for each, arch in ((one, "x86_64"), (other, "aarch64"))
                )
            ),
            "5",
        )
        with misbehaving(fake) as server:
            bare.larder_ok("add", "b", f"oci://{server.url.removeprefix('http://')}/acme/thing:5")
            images = tomllib.loads((bare.folder / "images.toml").read_text())["images"]
            assert images["b"]["kind"] == "disk"
            assert {"x86_64", "aarch64"} <= images["b"].keys()
            bare.larder_ok("raw:b")
            assert bare.larder("update", "--check", "b").status == 0


class TestAFile:
    def test_is_pinned_to_what_it_is(self, bare: Project, tmp_path: Path) -> None:
        (bare.folder / "my disk.img").write_bytes(disk("b"))
        (tmp_path / "other.img").write_bytes(disk("c"))
        said = bare.larder_ok("add", "b", "my disk.img")
        assert "pinned to what the file is now" in said
        assert declared(bare, "b") == {
            "url": "./my%20disk.img",
            "digest": sha256(disk("b")),
            "size": len(disk("b")),
        }
        write_tar(bare.folder / "root.tar", {"etc/os-release": b"ID=x\n", "lib/ld-linux-aarch64.so.1": b""})
        bare.larder_ok("add", "root", "root.tar")
        assert declared(bare, "root", "aarch64")["url"] == "./root.tar"
        bare.larder_ok("add", "c", str(tmp_path / "other.img"))
        assert declared(bare, "c")["url"] == (tmp_path / "other.img").as_uri()
        bare.larder_ok("raw:b", "raw:c")
        assert bare.larder("add", "d", "./nothing.img").status != 0


class TestFromTheCatalogue:
    def test_with_all_architectures_and_files(self, bare: Project) -> None:
        said = bare.larder_ok("add", "demo", "debian-12")
        assert "demo/demo.qcow2 was put beside it" in said
        assert set(tomllib.loads((bare.folder / "images.toml").read_text())["images"]["debian-12"]) >= {
            "x86_64",
            "aarch64",
        }
        bare.larder_ok("raw:demo", "--offline")

    def test_what_there_is_not(self, bare: Project) -> None:
        result = bare.larder("add", "debain-12")
        assert result.status == 3
        assert "did you mean debian-12?" in result.err
        assert bare.larder("add").status == 3

    def test_never_into_the_catalogue(self, bare: Project, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        result = bare.larder("add", "demo", folder=empty)
        assert result.status == 3
        assert "`larder init` begins one" in result.err
