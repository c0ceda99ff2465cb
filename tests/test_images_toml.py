"""The images.toml and the schema that larder ships."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from recipes import declare
from recipes.errors import DeclarationError
from recipes.model import Digest
from recipes.names import tail, with_tail
from recipes.sources.checksums import parse
from recipes.sources.resolve import served

from .kit.oracles import need

if TYPE_CHECKING:
    from recipes.model import Source

ROOT = Path(__file__).parents[1]
FILE = ROOT / "images.toml"


@pytest.fixture(scope="module")
def declaration() -> declare.Declaration:
    return declare.load(FILE)


def test_many_images_for_both_architectures(declaration: declare.Declaration) -> None:
    assert len(declaration.images) >= 25
    both = [name for name, by_arch in declaration.images.items() if len(by_arch) == 2]
    assert len(both) >= 20
    for family in (
        *("ubuntu", "debian", "fedora", "fcos", "almalinux", "rocky", "centos"),
        *("oraclelinux", "alpine", "archlinux", "opensuse", "freebsd"),
    ):
        assert any(name.startswith(family) for name in declaration.images), family
    assert sum(image["x86_64"].kind == "rootfs" for image in declaration.images.values()) >= 5


def test_ubuntu_comes_first_and_one_image_is_made_ahead(declaration: declare.Declaration) -> None:
    assert next(iter(declaration.images)) == "ubuntu-24.04"
    ahead = [name for name, by_arch in declaration.images.items() if any(image.prewarm for image in by_arch.values())]
    assert ahead == ["alpine-3.23"]


def test_every_image_is_of_one_piece(declaration: declare.Declaration) -> None:
    urls: list[str] = []
    for name, by_arch in declaration.images.items():
        if name == "demo":
            # One disk for every machine (tests/test_demo.py).
            continue
        for arch, image in by_arch.items():
            source = image.source
            assert image.title
            assert source.digest or source.checksums
            assert len(source.urls) == 1
            urls += source.urls
            # No machine's url stands under the other machine's name.
            other = {"x86_64": r"aarch64|arm64", "aarch64": r"x86[_-]64|amd64|x64"}[arch]
            for url in (*source.urls, source.checksums or ""):
                assert not re.search(other, url, re.IGNORECASE), url
            if source.checksums and not re.search(r"\.s?json$", source.checksums):
                # Text lists stand beside their image.
                assert source.checksums.rpartition("/")[0] == source.urls[0].rpartition("/")[0]
    assert len(set(urls)) == len(urls)


#: Url of a list -> the sample of its style, and what stands in it for the image: its location, and its digest.
STYLES = [
    (
        r"streams/v1/com\.ubuntu\.cloud:released:download\.sjson",
        "ubuntu-simplestreams.json",
        "noble/release-20260705/ubuntu-24.04-server-cloudimg-amd64.img",
        "ffe6203da54deeb6db5d2a98a83f9ec8e55f149d3f7ba622e1abe5fa966ee3d6",
    ),
    (
        r"cloud\.debian\.org/.*/latest/.*\.json",
        "debian-sidecar.json",
        "trixie/20260712-2537/debian-13-genericcloud-amd64-20260712-2537.qcow2",
        "euU+nb7igr/Bbyid7Eg93jqFmHacOKJnlIMQ96KlLGYmIBmGA7xSwUJifvujeYY9FgeWmKELNBAtVbzt1A6NMg",
    ),
    (
        r"download\.fedoraproject\.org/.*-CHECKSUM",
        "fedora-CHECKSUM",
        "Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2",
        "28680fe5b371a5a82ebf43a31926e086a168e59949d03969c5093e7071f90b7f",
    ),
    (
        r"builds\.coreos\.fedoraproject\.org/streams/",
        "fcos-stable.json",
        "https://builds.coreos.fedoraproject.org/prod/streams/stable/builds/44.20260707.3.1/x86_64/"
        "fedora-coreos-44.20260707.3.1-qemu.x86_64.qcow2.xz",
        "35eb8e1f601b2b65545402df54b2dbb2a48e75f1d4483de5dc575d020ddefa1e",
    ),
    (
        r"repo\.almalinux\.org/.*/CHECKSUM",
        "almalinux-CHECKSUM",
        "AlmaLinux-10-GenericCloud-10.2-20260526.0.x86_64.qcow2",
        "47f2218668dd4776be140dd92fa3bea700be1766e2c7d88bdfd6a4b50f477b4d",
    ),
    (
        r"dl\.rockylinux\.org/.*/CHECKSUM",
        "rocky-CHECKSUM",
        "Rocky-9-GenericCloud-Base-9.8-20260525.0.x86_64.qcow2",
        "92c206cc6f790c61583247eefe87890f8828420662c17cacf247cec78ab4eec8",
    ),
    (
        r"cloud\.centos\.org/.*/CHECKSUM",
        "centos-stream-SHA256SUM",
        "CentOS-Stream-GenericCloud-10-20260720.0.x86_64.qcow2",
        "93796945df5e54952be21ca85067f0c9f3b11a2dd6ee2163154fd9748c4c41d7",
    ),
    (
        r"yum\.oracle\.com/.*-template\.json",
        "oracle-template.json",
        "OL10U1_x86_64-kvm-b291.qcow2",
        "8e59326c4bf7cfa58a6cac404db8ed583fe3a5f4c460e2b73c64988785bb4f0f",
    ),
    (
        r"dl-cdn\.alpinelinux\.org/.*\.sha512",
        "alpine.sha512",
        "",
        "849196e26640b33fb1f106d46cebdf341c715f7f49363564eacece8097464b6a"
        "f7041618e94c4eb1a006394663252a86c0fb3158fee5d0ffb094899730679a71",
    ),
    (
        r"geo\.mirror\.pkgbuild\.com/.*\.SHA256|download\.opensuse\.org/.*\.sha256",
        "opensuse.sha256",
        "Leap-16.0-Minimal-VM.x86_64-Cloud.qcow2",
        "5b1d7d2e1a0f8d3c6c0f5b4a8e3b7e9f2f6d4c1b0a9e8d7c6b5a4f3e2d1c0b9a",
    ),
    (
        r"ftp-archive\.freebsd\.org/.*/CHECKSUM\.SHA256",
        "freebsd-CHECKSUM.SHA256",
        "FreeBSD-15.1-RELEASE-amd64-BASIC-CLOUDINIT-zfs.raw.xz",
        "93011721f334015ce203d43c4d204e7cddc73dc6e3e757532fe67b740dc916b4",
    ),
    (
        r"microsoft/WSL/.*/DistributionInfo\.json",
        "wsl-DistributionInfo.json",
        "https://releases.ubuntu.com/26.04/ubuntu-26.04-wsl-amd64.wsl",
        "96c7f5fb28a7fe28245331f9bfbe4375f18dd29a4850116ad3c4f60f6700c55c",
    ),
]


def listing(source: Source, digest: Digest, url: str) -> str:
    """Return the sample of the style of the list of `source`, with `url` and `digest` in it."""
    assert source.checksums
    ((_, sample, location, listed),) = [style for style in STYLES if re.search(style[0], source.checksums)]
    text = (ROOT / "tests" / "sources" / "lists" / sample).read_text()
    assert listed in text
    assert location in text
    encoded = (
        base64.b64encode(bytes.fromhex(digest.hex)).decode().rstrip("=") if "debian-sidecar" in sample else digest.hex
    )
    text = text.replace(listed, encoded)
    if location:
        text = text.replace(location, url if "://" in location else tail(url, location.count("/") + 1))
    if source.checksums.endswith(".sjson"):
        text = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{text}\n-----BEGIN PGP SIGNATURE-----\n\n"
        text += "-----END PGP SIGNATURE-----\n"
    # Oracle has the folder apart from the name.
    return text.replace("/templates/OracleLinux/OL10/u1/x86_64", urlsplit(url).path.rpartition("/")[0])


def test_every_list_names_its_image(declaration: declare.Declaration) -> None:
    followed = 0
    for by_arch in declaration.images.values():
        for image in by_arch.values():
            source = image.source
            if source.checksums is None:
                continue
            followed += 1
            digest = source.digest or Digest("sha256", "0f" * 32)
            identity = served(source, parse(listing(source, digest, source.urls[0])))
            assert (identity.digest, identity.urls) == (digest, source.urls), image.name
    assert followed >= 45


def later(source: Source) -> str:
    """Return the url of a source once everything that its pattern lets move has moved on."""
    assert source.pattern
    fixed = source.pattern.split("*")
    found = re.fullmatch("(.*)".join(map(re.escape, fixed)), tail(source.urls[0], source.pattern.count("/") + 1))
    assert found
    moved = [re.sub(r"\d+(?=\D*$)", lambda digits: str(int(digits[0]) + 1), text) or ".1" for text in found.groups()]
    return with_tail(source.urls[0], "".join(map(str.__add__, fixed, [*moved, ""])))


def test_patterns_find_the_next_release(declaration: declare.Declaration) -> None:
    for by_arch in declaration.images.values():
        for image in by_arch.values():
            source = image.source
            if source.pattern is None:
                continue
            assert source.digest
            url, digest = later(source), Digest(source.digest.algorithm, source.digest.hex[::-1])
            assert url != source.urls[0]
            identity = served(source, parse(listing(source, digest, url)))
            assert (identity.digest, identity.urls) == (digest, (url,)), image.name


def test_only_what_moves_is_unpinned(declaration: declare.Declaration) -> None:
    floating = {name for name, by_arch in declaration.images.items() for i in by_arch.values() if not i.source.digest}
    assert floating == {"opensuse-leap-16"}


def test_digests_are_all_different(declaration: declare.Declaration) -> None:
    images = [image for name, each in declaration.images.items() for image in each.values() if name != "demo"]
    pinned = [image.source.digest for image in images if image.source.digest]
    assert len(set(pinned)) == len(pinned)


def test_what_is_commented_out_is_right_once_it_is_not(tmp_path: Path) -> None:
    text = re.sub(r"^# (?=(signature|keyring) = )", "", FILE.read_text(), flags=re.MULTILINE)
    file = tmp_path / "images.toml"
    file.write_text(text)
    for keyring in set(re.findall(r'^keyring = "(.+)"$', text, re.MULTILINE)):
        (tmp_path / keyring).parent.mkdir(exist_ok=True)
        (tmp_path / keyring).touch()
    images = declare.load(file).images
    signed = {name for name, by_arch in images.items() for image in by_arch.values() if image.source.keyring}
    assert {"ubuntu-24.04", "fedora-44", "almalinux-10", "opensuse-leap-16"} <= signed


def tombi(folder: Path) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).parent / "tombi"
    if not beside.exists():
        need("tombi")
    program = beside if beside.exists() else "tombi"
    return subprocess.run([program, "lint", "--offline", "images.toml"], cwd=folder, capture_output=True, text=True)


def test_editors_agree() -> None:
    run = tombi(ROOT)
    assert run.returncode == 0, run.stderr


def test_editors_find_the_schema_and_point_to_the_same_places(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "schema", tmp_path / "schema")
    text = FILE.read_text()
    text = text.replace("\nprewarm = true", '\nprewarm = "yes"').replace("\nsize = ", "\nsze = ", 1)
    text = text.replace('\ntitle = "FreeBSD', '\nderive = ["raw", "tape"]\nkind = "disc"\ntitle = "FreeBSD')
    file = tmp_path / "images.toml"
    file.write_text(text)
    with pytest.raises(DeclarationError) as caught:
        declare.load(file)
    ours = set(re.findall(r"images\.toml:(\d+:\d+)", caught.value.message))
    assert len(ours) == 4
    plain = re.sub(r"\x1b\[\d*(;\d+)*m", "", tombi(tmp_path).stderr)
    assert set(re.findall(r"images\.toml:(\d+:\d+)", plain)) == ours


def test_a_wheel_finds_its_schemas(tmp_path: Path) -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    # What these settings make of it.
    for package in wheel["packages"]:
        shutil.copytree(ROOT / package, tmp_path / package)
    for source, target in wheel["force-include"].items():
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        (tmp_path / target).parent.mkdir(exist_ok=True)
        copy(ROOT / source, tmp_path / target)
    program = (
        f"from pathlib import Path; from recipes import declare; declare.load(Path({str(FILE)!r})); print(declare)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in run.stdout
