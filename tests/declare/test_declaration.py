from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from doit.doit_cmd import DoitMain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from recipes.declare import validate
from recipes.declare.declaration import load
from recipes.declare.images import COMMANDS, DEFAULT_DERIVE
from recipes.errors import DeclarationError
from recipes.kinds import DERIVABLE
from recipes.model import Digest
from recipes.reference import Namespace
from recipes.units import parse_size

SHA256 = "sha256:" + "0f" * 32
SHA512 = "sha512:" + "a0" * 64
PINNED = f'url = "https://h.example/a.img"\ndigest = "{SHA256}"\n'
VALID = f"[images.a.x86_64]\n{PINNED}"
SCHEMA: dict[str, Any] = json.loads(validate.schema("images"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def errors(text: str) -> list[str]:
    """Return what is said of images.toml with this text, without the file's name."""
    Path("images.toml").write_bytes(text.encode())
    with pytest.raises(DeclarationError) as caught:
        load(Path("images.toml"))
    assert caught.value.hint is None
    lines = caught.value.message.splitlines()
    assert all(line.startswith("images.toml:") for line in lines)
    return [line.removeprefix("images.toml:") for line in lines]


def test_images_in_registries(folder: Path) -> None:
    (folder / "images.toml").write_text(f"""
        [images.floating.x86_64]
        url = ["oci://docker.io/library/alpine:3.22", "oci://ghcr.io/acme/alpine:3.22"]
        [images.pinned]
        vhdx-size = "64GiB"
        oci-compression = "zstd"
        qcow2-compression = "zlib"
        [images.pinned.x86_64]
        url = "oci://localhost:5000/a/b:1@{SHA256}"
        [images.archive]
        kind = "oci"
        [images.archive.x86_64]
        url = "https://h.example/image.tar.gz"
        digest = "{SHA512}"
        """)
    images = {name: by_arch["x86_64"] for name, by_arch in load(folder / "images.toml").images.items()}
    assert {image.kind for image in images.values()} == {"oci"}
    assert images["floating"].source.digest is None
    assert (images["floating"].derive, images["floating"].vhdx_size) == (("rootfs",), 1 << 40)
    assert (images["floating"].compression, images["floating"].qcow2_compression) == ("gzip", "zstd")
    assert images["pinned"].qcow2_compression == "zlib"
    assert images["pinned"].source.digest == Digest.parse(SHA256)
    assert (images["pinned"].vhdx_size, images["pinned"].compression) == (64 << 30, "zstd")


def test_image_layouts(folder: Path) -> None:
    (folder / "images.toml").write_text(f"""
        [images.floating.x86_64]
        url = "file:///srv/layout/"
        [images.pinned.x86_64]
        url = ["file:///srv/layout/", "file:///mnt/layout/"]
        digest = "{SHA256}"
    """)
    images = load(Path("images.toml")).images
    floating, pinned = images["floating"]["x86_64"], images["pinned"]["x86_64"]
    assert (floating.kind, floating.source.digest) == ("oci", None)
    assert (pinned.kind, str(pinned.source.digest)) == ("oci", SHA256)


def test_all_that_can_be_said(folder: Path) -> None:
    (folder / "keys").mkdir()
    (folder / "keys" / "a.asc").touch()
    file = folder / "images.toml"
    file.write_text(f"""
        [cache]
        max-virtual-size = "512GiB"
        registry = "http://registry.lan:5000/images"
        [mirrors]
        "https://h.example/" = ["https://m.example/h/", "file:///srv/"]
        [images."b-1.0"]
        title = "B"
        derive = ["fetch", "raw"]
        prewarm = true
        [images."b-1.0".aarch64]
        url = ["https://h.example/b/b-*.qcow2", "file:///srv/b.qcow2"]
        checksums = "https://h.example/b/SHA256SUMS"
        signature = "https://h.example/b/SHA256SUMS.gpg"
        keyring = "keys/a.asc"
        [images."b-1.0".x86_64]
        url = "http://h.example/b.img?download=1"
        digest = "{SHA512.upper().replace("SHA", "sha")}"
        size = 645988352
        [images.a]
        kind = "rootfs"
        x86_64 = {{ url = "https://h.example/a", digest = "{SHA256}" }}
    """)
    declaration = load(file)

    assert declaration.max_virtual_size == 512 << 30
    assert declaration.registry == Namespace("registry.lan:5000", "/images", plain=True)
    assert declaration.mirrors == {"https://h.example/": ("https://m.example/h/", "file:///srv/")}
    assert list(declaration.images) == ["b-1.0", "a"]
    assert list(declaration.images["b-1.0"]) == ["aarch64", "x86_64"]

    arm = declaration.images["b-1.0"]["aarch64"]
    assert (arm.name, arm.arch, arm.kind, arm.title) == ("b-1.0", "aarch64", "disk", "B")
    assert (arm.derive, arm.prewarm) == (("fetch", "raw"), True)
    assert arm.source.urls == ("https://h.example/b/b-*.qcow2", "file:///srv/b.qcow2")
    assert (arm.source.digest, arm.source.size) == (None, None)
    assert arm.source.checksums == "https://h.example/b/SHA256SUMS"
    assert arm.source.signature == "https://h.example/b/SHA256SUMS.gpg"
    assert arm.source.keyring == folder / "keys" / "a.asc"

    intel = declaration.images["b-1.0"]["x86_64"]
    assert (intel.title, intel.derive, intel.prewarm) == (arm.title, arm.derive, arm.prewarm)
    assert intel.source.digest == Digest.parse(SHA512)
    assert intel.source.size == 645988352
    assert (intel.source.checksums, intel.source.signature, intel.source.keyring) == (None, None, None)

    rootfs = declaration.images["a"]["x86_64"]
    assert (rootfs.kind, rootfs.title, rootfs.derive, rootfs.prewarm) == ("rootfs", "", ("rootfs",), False)


def test_defaults() -> None:
    Path("images.toml").write_text(VALID)
    declaration = load(Path("images.toml"))
    image = declaration.images["a"]["x86_64"]
    assert (image.kind, image.derive, image.prewarm) == ("disk", ("raw",), False)
    assert declaration.mirrors == {}
    assert declaration.max_virtual_size == 2 << 40


@pytest.mark.parametrize(
    "name",
    ["a.tar", "a.tar.gz", "a.TAR.XZ", "a.tar.zst", "a.tar.bz2", "a.tgz", "a.txz", "a.wsl", "a.tar.gz?x=a.img"],
)
def test_a_name_that_ends_like_a_tarball_is_a_rootfs(name: str) -> None:
    Path("images.toml").write_text(VALID.replace("a.img", name))
    assert load(Path("images.toml")).images["a"]["x86_64"].kind == "rootfs"


def test_a_root_in_a_folder() -> None:
    Path("images.toml").write_text(f"{VALID.replace('a.img', 'a.tar.zst')}strip = 'root.x86_64/'\n")
    assert load(Path("images.toml")).images["a"]["x86_64"].source.strip == "root.x86_64"


@pytest.mark.parametrize("name", ["a", "a.gz", "a.tar.gz.img", "tar", "a.wsl.asc", "a?x=.tar"])
def test_a_name_that_may_be_either_is_a_disk_unless_declared(name: str) -> None:
    text = VALID.replace("a.img", name)
    Path("images.toml").write_text(text)
    assert load(Path("images.toml")).images["a"]["x86_64"].kind == "disk"
    if not name.endswith(".img"):
        Path("images.toml").write_text(f'[images.a]\nkind = "rootfs"\n{text}')
        assert load(Path("images.toml")).images["a"]["x86_64"].kind == "rootfs"


NEEDS = (
    'needs digest or checksums, since nothing is accepted unverified: copy digest = "sha256:HEX" from '
    "upstream's list, or give the url of the list as checksums"
)
URL = "expected a url that begins with https://, http://, file:///, ./ or oci://"
LIST_URL = "expected a url that begins with https://, http://, file:/// or ./"
PREFIX = "expected the beginning of http, https or file urls, up to and with a slash"
NAME = "expected a name of letters a-z, digits and . _ + -, beginning with a letter or a digit"
LAYOUT = "[images.a.x86_64]\nurl = 'file:///layout/'\n"
PINNED_ONLY = f"digest = '{SHA256}'\n"
TARBALL = VALID.replace("a.img", "a.tar")
STRIP = "images.a.x86_64.strip: expected the folder in the tarball that is the root, such as root.x86_64, got "
LIST = 'checksums = "https://h.example/LIST"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # Syntax.
        ("a = §nope", "Invalid value"),
        (f"{VALID}§url = 'x'", "images.a.x86_64.url: already defined in line 2"),
        (f"{VALID}[images.a.§x86_64]", "images.a.x86_64: already defined in line 1"),
        # No images.
        ("§", "no image is declared; expected a table such as [images.debian]"),
        ("[§images]", "images: no image is declared; expected a table such as [images.debian]"),
        ("[images.§a]", "images.a: has no architecture; expected a table such as [images.a.x86_64]"),
        ("[images]\n§a.title = 'b'", "images.a: has no architecture; expected a table such as [images.a.x86_64]"),
        # Image layouts.
        (
            f"{LAYOUT}§checksums = 'https://h.example/LIST'",
            "images.a.x86_64.checksums: is not for image layouts: the layout itself says what it holds",
        ),
        (
            f"{LAYOUT}§size = 1",
            "images.a.x86_64.size: is not for image layouts: the layout itself says how large an image is",
        ),
        (
            f"{LAYOUT}digest = §'sha512:{'0' * 128}'",
            "images.a.x86_64.digest: expected the sha256 of a manifest, which is what layouts serve by",
        ),
        (
            f"[images.a]\nkind = §'disk'\n{LAYOUT}",
            'images.a.kind: contradicts "file:///layout/", which is an image layout',
        ),
        (
            "[images.a.x86_64]\nurl = ['file:///layout/', §'file:///a']\n",
            "images.a.x86_64.url[1]: expected image layouts only, as the others are: what a layout serves is no file",
        ),
        (
            f"[images.a.x86_64]\nurl = §'https://h.example/layout/'\n{PINNED_ONLY}",
            'images.a.x86_64.url: expected the url of a file, got "https://h.example/layout/", a folder\'s',
        ),
        # Unknown keys.
        (f"{VALID}[§imags]", "imags: unknown key; did you mean images?"),
        (f"{VALID}[§zzz]", "zzz: unknown key; expected cache, mirrors or images"),
        (f"{VALID}[cache]\n§registri = 'x'", "cache.registri: unknown key; did you mean registry?"),
        (f"{VALID}[images.a]\n§titel = 'x'", "images.a.titel: unknown key; did you mean title?"),
        (f"{VALID}§dgest = 'x'", "images.a.x86_64.dgest: unknown key; did you mean digest?"),
        (
            f'{VALID}§"ü\\n" = 1',
            'images.a.x86_64."ü\\n": unknown key; '
            "expected url, digest, size, checksums, pattern, signature, keyring, strip, member or disktype",
        ),
        (
            f"{VALID}[images.a]\n§url = 'https://h.example/b'",
            "images.a.url: belongs in the table of an architecture, such as [images.a.x86_64]",
        ),
        (
            f"{VALID}[images.a]\n§strip = 'root'",
            "images.a.strip: belongs in the table of an architecture, such as [images.a.x86_64]",
        ),
        (f"{VALID}§strip = 'root'", 'images.a.x86_64.strip: is for a tarball, kind = "rootfs"; this is kind = "disk"'),
        (f"{TARBALL}strip = §'../root'", f'{STRIP}"../root"'),
        (f"{TARBALL}strip = §'/root'", f'{STRIP}"/root"'),
        (f"{TARBALL}strip = §''", f'{STRIP}""'),
        (f"{TARBALL}strip = §'./root'", f'{STRIP}"./root"'),
        # Types.
        (f"{TARBALL}strip = §1", "images.a.x86_64.strip: expected a string, got 1"),
        ("images = §5", "images: expected a table, got 5"),
        ("[[§images]]", "images: expected a table, got a list"),
        ("images.a = §'x'", 'images.a: expected a table, got "x"'),
        ("images.a.x86_64 = §[1]", "images.a.x86_64: expected a table, got a list"),
        (f"{VALID}[images.a]\ntitle = §true", "images.a.title: expected a string, got true"),
        (f"{VALID}[images.a]\nprewarm = §'yes'", 'images.a.prewarm: expected true or false, got "yes"'),
        (f"{VALID}[images.a]\nderive = §'raw'", 'images.a.derive: expected a list, got "raw"'),
        (f"{VALID}[images.a]\nderive = [\n'raw', #\n §[]]", "images.a.derive[1]: expected a string, got a list"),
        (f"{VALID}size = §'1GB'", 'images.a.x86_64.size: expected a whole number, got "1GB"'),
        (f"{VALID}size = §1.5", "images.a.x86_64.size: expected a whole number, got 1.5"),
        (f"{VALID}size = §true", "images.a.x86_64.size: expected a whole number, got true"),
        (f"{VALID}size = §nan", "images.a.x86_64.size: expected a whole number, got NaN"),
        (f"{VALID}{LIST}keyring = §{{}}", "images.a.x86_64.keyring: expected a string, got a table"),
        (
            f"{VALID}{LIST}keyring = §1979-05-27",
            "images.a.x86_64.keyring: expected a string, got the date or time 1979-05-27",
        ),
        (f"[images.a.x86_64]\nurl = §1\n{LIST}", "images.a.x86_64.url: expected a string or a list, got 1"),
        (
            f"{VALID}[cache]\nmax-virtual-size = §[]",
            "cache.max-virtual-size: expected a string or a whole number, got a list",
        ),
        (f"{VALID}[mirrors]\n'https://h/' = §'https://m/'", 'mirrors."https://h/": expected a list, got "https://m/"'),
        # Values.
        (f"{VALID}[images.a]\nkind = §'docker'", 'images.a.kind: expected "disk", "rootfs" or "oci", got "docker"'),
        (
            f"{VALID}[images.a]\nkind = §'rotfs'",
            'images.a.kind: expected "disk", "rootfs" or "oci", got "rotfs"; did you mean "rootfs"?',
        ),
        (
            f"{VALID}[images.a]\nderive = ['raw', §'vhdy']",
            'images.a.derive[1]: expected "fetch", "content", "raw", "vhd", "hyperv", "qcow2", "vmdk", "rootfs", '
            '"ext4", "vhdx" or "oci", got "vhdy"; did you mean "vhd"?',
        ),
        (f"{VALID}[images.a]\nderive = ['raw', §'raw']", 'images.a.derive[1]: "raw" is listed twice'),
        (
            f"{VALID.replace('.img', '.wsl')}[images.a]\nderive = [§'raw']",
            'images.a.derive[0]: an image of kind rootfs has no "raw"; '
            'expected "fetch", "content", "rootfs", "ext4", "vhdx" or "oci"',
        ),
        (f"{VALID}size = §0", "images.a.x86_64.size: expected a number of bytes from 1 to 9223372036854775807, got 0"),
        (f"{VALID}size = §1.0", "images.a.x86_64.size: expected a whole number of bytes, got 1.0"),
        (
            f"{VALID}[cache]\nregistry = §'https://ghcr.io/acme'",
            "cache.registry: expected HOST/PATH, or http://HOST/PATH for a registry without TLS, "
            "got 'https://ghcr.io/acme'",
        ),
        (
            f"{VALID}[cache]\nregistry = §'acme/images'",
            "cache.registry: expected HOST/PATH, and a host has a dot or a port, got 'acme/images'",
        ),
        (f"{VALID}[cache]\nregistry = §'docker.io'", "cache.registry: expected docker.io/USER, got 'docker.io'"),
        (f"{VALID}[cache]\nregistry = §['ghcr.io']", "cache.registry: expected a string, got a list"),
        (
            f"{VALID}[cache]\nmax-virtual-size = §'2 gigs'",
            'cache.max-virtual-size: expected a size such as "20GB", "512MiB" or "2TiB", got \'2 gigs\'',
        ),
        (
            f"{VALID}[cache]\nmax-virtual-size = §'9EiB'",
            "cache.max-virtual-size: '9EiB' is more than a file can have (9223372036854775807 bytes)",
        ),
        (
            f"{VALID}[cache]\nmax-virtual-size = §-1",
            "cache.max-virtual-size: expected a number of bytes from 1 to 9223372036854775807, got -1",
        ),
        # Names.
        (f"[images.§list.x86_64]\n{PINNED}", "images.list: doit has a command called list; choose another name"),
        (f"[images.§prune.x86_64]\n{PINNED}", "images.prune: doit has a command called prune; choose another name"),
        (f"[images.§'-a'.x86_64]\n{PINNED}", f"images.-a: {NAME}"),
        (f"[images.§'a b'.x86_64]\n{PINNED}", f'images."a b": {NAME}'),
        (f"[images.§''.x86_64]\n{PINNED}", f'images."": {NAME}'),
        (f'[images.§"a\\n".x86_64]\n{PINNED}', f'images."a\\n": {NAME}'),
        (f"[images.§Debian.x86_64]\n{PINNED}", "images.Debian: expected a name in lower case: debian"),
        (
            f"{VALID}[images.§A.x86_64]\n{PINNED}",
            "images.A: differs from a only in case, and the two would share a folder where case is ignored",
        ),
        # Architectures.
        (
            f"[images.ubuntu-24.§04.x86_64]\n{PINNED}",
            'images.ubuntu-24.04: quote the name: [images."ubuntu-24.04".ARCH]; a dot begins another table',
        ),
        (
            f"[images.a-1.§2.3.x86_64]\n{PINNED}",
            'images.a-1.2: quote the name: [images."a-1.2.3".ARCH]; a dot begins another table',
        ),
        (f"[images.a.§amd64]\n{PINNED}", "images.a.amd64: unknown architecture; write x86_64"),
        (f"[images.a.§arm64]\n{PINNED}", "images.a.arm64: unknown architecture; write aarch64"),
        (f"[images.a.§X86_64]\n{PINNED}", "images.a.X86_64: unknown architecture; write x86_64"),
        (f"[images.a.§x86-64]\n{PINNED}", "images.a.x86-64: unknown architecture; write x86_64"),
        (f"[images.a.§riscv64]\n{PINNED}", "images.a.riscv64: unknown architecture; expected x86_64 or aarch64"),
        # Urls.
        (f"[images.a.§x86_64]\n{LIST}", "images.a.x86_64: needs a url"),
        (f"[images.a.x86_64]\nurl = §[]\n{LIST}", "images.a.x86_64.url: expected at least one url"),
        (f"[images.a.x86_64]\nurl = §'ftp://h/a'\n{LIST}", f'images.a.x86_64.url: {URL}, got "ftp://h/a"'),
        (f"[images.a.x86_64]\nurl = §'a.img'\n{LIST}", f'images.a.x86_64.url: {URL}, got "a.img"'),
        (f"[images.a.x86_64]\nurl = §'https:///a'\n{LIST}", f'images.a.x86_64.url: {URL}, got "https:///a"'),
        (f"[images.a.x86_64]\nurl = §'file://h/a'\n{LIST}", f'images.a.x86_64.url: {URL}, got "file://h/a"'),
        (
            f"[images.a.x86_64]\nurl = §'https://h/a b'\n{LIST}",
            'images.a.x86_64.url: a url has no spaces; write %20 for each, got "https://h/a b"',
        ),
        (
            f"[images.a.x86_64]\nurl = ['https://h/a', §'https://h/b/']\n{LIST}",
            'images.a.x86_64.url[1]: expected the url of a file, got "https://h/b/", a folder\'s',
        ),
        (
            f"[images.a.x86_64]\nurl = ['https://h/a', §'https://h/a']\n{LIST}",
            'images.a.x86_64.url[1]: "https://h/a" is listed twice',
        ),
        (
            f"[images.a.x86_64]\nurl = §'https://h/*/a'\n{LIST}",
            'images.a.x86_64.url: * may stand in the file name of an image only, got "https://h/*/a"',
        ),
        (
            f"[images.a.x86_64]\nurl = §'https://h/a-*.img'\ndigest = '{SHA256}'",
            'images.a.x86_64.url: * in "a-*.img" needs checksums, the list that says what it stands for, and no digest',
        ),
        (
            f"{VALID}checksums = §'https://h/*'",
            'images.a.x86_64.checksums: * may stand in the file name of an image only, got "https://h/*"',
        ),
        (f"{VALID}checksums = §'ftp://h/LIST'", f'images.a.x86_64.checksums: {LIST_URL}, got "ftp://h/LIST"'),
        # Verification.
        ("[images.a.§x86_64]\nurl = 'https://h/a'", f"images.a.x86_64: {NEEDS}"),
        (
            "[images.a.x86_64]\nurl = 'https://h/a'\ndigest = §'sha256:abc'",
            "images.a.x86_64.digest: sha256 takes 64 hexadecimal digits, got 3",
        ),
        (
            "[images.a.x86_64]\nurl = 'https://h/a'\ndigest = §'md5:abc'",
            "images.a.x86_64.digest: expected sha256:HEX or sha512:HEX, got 'md5:abc'",
        ),
        (
            "[images.a.x86_64]\nurl = 'https://h/a'\ndigest = §'sha512:xyz'",
            "images.a.x86_64.digest: sha512 takes hexadecimal digits only, got 'xyz'",
        ),
        (
            f"{VALID}{LIST}§signature = 'https://h/LIST.gpg'",
            "images.a.x86_64.signature: needs keyring, the file with the keys that may have made it",
        ),
        (
            f"{VALID}§keyring = 'images.toml'",
            "images.a.x86_64.keyring: is for a checksum list; expected checksums beside it",
        ),
        (
            f"{VALID}{LIST}keyring = §'keys/none.asc'",
            "images.a.x86_64.keyring: expected a file of OpenPGP keys at keys/none.asc, found none that can be read",
        ),
        (
            f"{VALID}{LIST}keyring = §'.'",
            "images.a.x86_64.keyring: expected a file of OpenPGP keys at ., found none that can be read",
        ),
        # Patterns.
        (
            f"{VALID}§pattern = 'a.img'",
            "images.a.x86_64.pattern: is for a checksum list; expected checksums beside it",
        ),
        (
            f"{VALID}{LIST}pattern = §'v*/b-*.img'",
            'images.a.x86_64.pattern: "v*/b-*.img" is not what "https://h.example/a.img" ends with',
        ),
        (
            f"[images.a.x86_64]\nurl = ['https://h/v1/a', 'https://h/a']\n{LIST}pattern = §'v*/a'",
            'images.a.x86_64.pattern: "v*/a" is not what "https://h/a" ends with',
        ),
        (
            f"[images.a.x86_64]\nurl = §'https://[h/a.img'\n{LIST}pattern = 'b.img'",
            'images.a.x86_64.url: "https://[h/a.img" is not a url: Invalid IPv6 URL',
        ),
        (
            f"[images.a.x86_64]\nurl = §'https://h:70000/a.img'\n{LIST}",
            'images.a.x86_64.url: "https://h:70000/a.img" is not a url: Port out of range 0-65535',
        ),
        (
            f"{VALID}{LIST}pattern = §'/a.img'",
            'images.a.x86_64.pattern: expected a file name, or the end of a path such as release-*/NAME, got "/a.img"',
        ),
        (
            f"[images.a.x86_64]\nurl = §'https://h/a-*.img'\ndigest = '{SHA256}'\n{LIST}",
            'images.a.x86_64.url: * in "a-*.img" needs checksums, the list that says what it stands for, and no digest',
        ),
        # Kinds.
        (
            f"{VALID}[images.a]\nkind = §'oci'",
            'images.a.kind: contradicts "https://h.example/a.img", which ends like a disk',
        ),
        (
            f"{VALID}[images.a.aarch64]\nurl = §'https://h/a.tgz'\n{LIST}",
            'images.a.aarch64.url: ends like a rootfs, and "https://h.example/a.img" ends like a disk',
        ),
        (
            "[images.a]\nkind = §'rootfs'\n[images.a.x86_64]\nurl = 'oci://h/a'",
            'images.a.kind: contradicts "oci://h/a", which is an image in a registry',
        ),
        (
            "[images.a]\nkind = §'disk'\n[images.a.x86_64]\nurl = 'file:///a/'",
            'images.a.kind: contradicts "file:///a/", which is an image layout',
        ),
        # Registries.
        (
            "[images.a.x86_64]\nurl = §'oci://h/A:b'",
            "images.a.x86_64.url: expected oci://HOST/NAME:TAG or oci://HOST/NAME@sha256:HEX, got 'oci://h/A:b'",
        ),
        (
            "[images.a.x86_64]\nurl = §'oci://h/a@sha256:0f'",
            "images.a.x86_64.url: sha256 takes 64 hexadecimal digits, got 2",
        ),
        (
            f"[images.a.x86_64]\nurl = 'oci://h/a'\n§{LIST}",
            "images.a.x86_64.checksums: is not for oci:// urls: the registry itself says what a tag is",
        ),
        (
            "[images.a.x86_64]\nurl = 'oci://h/a'\n§size = 1",
            "images.a.x86_64.size: is not for oci:// urls: the registry itself says how large an image is",
        ),
        (
            f"[images.a.x86_64]\nurl = ['oci://h/a', §'https://h/a']\ndigest = '{SHA256}'",
            "images.a.x86_64.url[1]: expected oci:// urls only, as the others are: what a registry serves is no file",
        ),
        (
            f"[images.a.x86_64]\nurl = 'oci://h/a'\ndigest = §'{SHA512}'",
            "images.a.x86_64.digest: expected the sha256 of a manifest, which is what registries serve by",
        ),
        (
            f"[images.a.x86_64]\nurl = §'oci://h/a@{SHA256}'\ndigest = '{SHA256.replace('0f', '1e')}'",
            f"images.a.x86_64.url: is pinned to other bytes than {SHA256.replace('0f', '1e')}",
        ),
        # What is derived.
        (
            f"{VALID}[images.a]\nvhdx-size = §'1MiB'",
            'images.a.vhdx-size: expected whole MiB from 64.0 MiB up to and without 16 TiB, got "1MiB"',
        ),
        (
            f"{VALID}[images.a]\nvhdx-size = §104857601",
            "images.a.vhdx-size: expected whole MiB from 64.0 MiB up to and without 16 TiB, got 104857601",
        ),
        (
            f"{VALID}[images.a]\noci-compression = §'xz'",
            'images.a.oci-compression: expected "gzip", "zstd" or "none", got "xz"',
        ),
        # Mirrors.
        (f"{VALID}[mirrors]\n§'https://h' = ['https://m/']", f'mirrors."https://h": {PREFIX}'),
        (
            f"{VALID}[mirrors]\n'https://h/' = ['https://m/', §'https://n']",
            f'mirrors."https://h/"[1]: {PREFIX}, got "https://n"',
        ),
        (f"{VALID}[mirrors]\n'https://h/' = §[]", 'mirrors."https://h/": expected at least one prefix'),
        (
            f"{VALID}[mirrors]\n'https://h/' = ['https://m/', §'https://m/']",
            'mirrors."https://h/"[1]: "https://m/" is listed twice',
        ),
    ],
)
@pytest.mark.parametrize(("mark", "newline"), [("", "\n"), ("\ufeff", "\r\n")], ids=["unix", "windows"])
def test_one_error(text: str, said: str, mark: str, newline: str) -> None:
    before, after = text.split("§")
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    assert errors(mark + (before + after).replace("\n", newline)) == [f"{line}:{column}: {said}"]


@pytest.mark.parametrize("pattern", ["a.img", "*.img", "a*", "v*/a.img", "*/*", "x/v1/a.img"])
def test_a_pattern_is_what_the_url_ends_with(pattern: str) -> None:
    Path("images.toml").write_text(
        f"[images.a.x86_64]\nurl = 'https://h/x/v1/a%2Eimg?b'\n{LIST}pattern = '{pattern}'\ndigest = '{SHA256}'"
    )
    assert load(Path("images.toml")).images["a"]["x86_64"].source.pattern == pattern


def test_all_errors_at_once_in_reading_order() -> None:
    said = errors("""\
        [mirrors]
        "https://é.example" = ["https://m/", 5]     # two
        [images.Run]
        [images.b]
        title = '''
        more
        '''
        derive = ["vhd",
                  "raw", "raw"]
        amd64 = { url = "x" }
        [images.b.aarch64]
        url = ["https://h/b.wsl", "ftp://h/b"]
        [images.c.x86_64]
        [other]
    """)
    assert [(line.split(" ")[0], line.split(" ")[1]) for line in said] == [
        ("2:9:", 'mirrors."https://é.example":'),
        ("2:46:", 'mirrors."https://é.example"[1]:'),
        ("3:17:", "images.Run:"),
        ("3:17:", "images.Run:"),
        ("8:19:", "images.b.derive[0]:"),
        ("9:19:", "images.b.derive[1]:"),
        ("9:26:", "images.b.derive[2]:"),
        ("10:9:", "images.b.amd64:"),
        ("11:19:", "images.b.aarch64:"),
        ("12:35:", "images.b.aarch64.url[1]:"),
        ("13:19:", "images.c.x86_64:"),
        ("13:19:", "images.c.x86_64:"),
        ("14:10:", "other:"),
    ]


def test_two_requirements_of_one_key() -> None:
    assert errors(f"{VALID}signature = 'https://h/LIST.gpg'") == [
        "4:1: images.a.x86_64.signature: is for a checksum list; expected checksums beside it",
        "4:1: images.a.x86_64.signature: needs keyring, the file with the keys that may have made it",
    ]


def test_a_file_that_is_not_there(folder: Path) -> None:
    with pytest.raises(DeclarationError, match=r"^images\.toml: .*found no such file") as caught:
        load(folder / "images.toml")
    assert "LARDER_IMAGES" in str(caught.value.hint)


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "images.toml").mkdir()
    with pytest.raises(DeclarationError, match=r"^images\.toml: cannot be read: Is a directory$"):
        load(folder / "images.toml")


def test_a_file_in_another_encoding() -> None:
    Path("images.toml").write_bytes(b"\xef\xbb\xbf# \xc3\xa9\r\n# \xc3\xa9\xe9\n")
    with pytest.raises(DeclarationError, match=r"^images\.toml:2:4: not UTF-8\n"):
        load(Path("images.toml"))


def test_files_are_named_from_the_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "sub").mkdir()
    file = folder / "sub" / "images.toml"
    file.write_text("=")
    with pytest.raises(DeclarationError, match=rf"^sub{re.escape(os.sep)}images\.toml:1:1: "):
        load(file)
    monkeypatch.chdir(folder / "sub")
    with pytest.raises(DeclarationError, match=r"^images\.toml:1:1: "):
        load(file)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    with pytest.raises(DeclarationError, match=rf"^{re.escape(str(file))}:1:1: "):
        load(file)


def imported(code: str) -> set[str]:
    """Return the modules that a new interpreter holds after `code`."""
    program = f"import sys\nfrom pathlib import Path\nfrom recipes import declare\n{code}\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(validate.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_a_file_that_was_validated_is_not_validated_again(folder: Path) -> None:
    file, stamps = folder / "images.toml", folder / "cache" / "validated"
    file.write_text(VALID)
    code = f"declare.load(Path({str(file)!r}), validated=Path({str(stamps)!r}))"
    assert "jsonschema" in imported(code)
    assert len(list(stamps.iterdir())) == 1
    assert not {"jsonschema", "requests", "rich", "zstandard", "difflib"} & imported(code)
    file.write_text(VALID + "\n")
    assert "jsonschema" in imported(code)
    assert len(list(stamps.iterdir())) == 2


def test_a_file_with_errors_leaves_no_stamp_and_a_stamp_hides_none(folder: Path) -> None:
    file, stamps = folder / "images.toml", folder / "validated"
    file.write_text(VALID + "titel = 1\n")
    with pytest.raises(DeclarationError):
        load(file, validated=stamps)
    assert not stamps.exists()

    file.write_text(f"{VALID}{LIST}keyring = 'a.asc'\n")
    (folder / "a.asc").touch()
    load(file, validated=stamps)
    (folder / "a.asc").unlink()
    with pytest.raises(DeclarationError, match=r"^images\.toml:5:11: images\.a\.x86_64\.keyring: "):
        load(file, validated=stamps)


def test_a_stamp_that_cannot_be_written_is_harmless(folder: Path) -> None:
    (folder / "images.toml").write_text(VALID)
    (folder / "cache").touch()
    declaration = load(folder / "images.toml", validated=folder / "cache" / "validated")
    assert list(declaration.images) == ["a"]


def test_a_stamp_that_cannot_be_looked_for_is_harmless(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    (folder / "images.toml").write_text(VALID)
    # Root, who runs the tests in containers, is denied nothing.
    monkeypatch.setattr(Path, "exists", denied)
    assert list(load(folder / "images.toml", validated=folder / "validated").images) == ["a"]


def test_every_command_is_refused_as_a_name() -> None:
    project = tomllib.loads((Path(validate.__file__).parents[2] / "pyproject.toml").read_text())
    commands = {command.get_name() for command in DoitMain.DOIT_CMDS}
    commands |= project["project"]["entry-points"]["doit.COMMAND"].keys()
    assert commands <= COMMANDS


def subschemas(schema: Any, where: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return every schema that describes something people write, with its place."""
    found = [(where or "/", schema)]
    for keyword in ("properties", "patternProperties", "definitions"):
        for name, inner in schema.get(keyword, {}).items():
            found += subschemas(inner, f"{where}/{keyword}/{name}")
    if "items" in schema:
        found += subschemas(schema["items"], f"{where}/items")
    return found


def test_the_schema_is_draft_07_and_describes_everything() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "$id" in SCHEMA
    described = subschemas(SCHEMA)
    assert len(described) > 15
    for where, schema in described:
        if "$ref" in schema:
            assert schema == {"$ref": "#/definitions/source"}
            continue
        assert schema.get("title"), where
        assert schema.get("description"), where
        if schema["type"] == "object":
            assert schema.get("additionalProperties") is False, where


def test_the_schema_has_the_words_of_the_program() -> None:
    image = SCHEMA["properties"]["images"]["patternProperties"]["."]["properties"]
    assert image["kind"]["enum"] == list(DERIVABLE)
    assert image["derive"]["items"]["enum"] == list(DERIVABLE["disk"])
    for kind, derive in DEFAULT_DERIVE.items():
        assert set(derive) <= set(DERIVABLE[kind]) <= set(DERIVABLE["disk"])


@given(st.from_regex(r"[0-9]{0,3}(\.[0-9]{0,2})? {0,2}[KkMmGgTtPpEeBbiIxK\n]{0,3}", fullmatch=True))
def test_the_schema_knows_the_same_sizes(text: str) -> None:
    pattern = SCHEMA["properties"]["cache"]["properties"]["max-virtual-size"]["pattern"].removesuffix("$")
    try:
        parse_size(text)
        is_size = True
    except ValueError as error:
        is_size = "more than a file" in str(error)
    assert bool(re.fullmatch(pattern, text)) is is_size


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


URLS = st.sampled_from(
    [
        "https://h/a",
        "https://h/a-*.img",
        "oci://h/a:1",
        f"oci://h/a@{SHA256}",
        "oci://h/A",
        "https://h/*/a",
        "https://h/",
        "https://h",
        "x",
        "file:///a",
        "file://b/a",
        "https://h/a#b",
        "https://h/a b",
        "",
    ]
)
ODD = st.sampled_from([0, -1, 1, 1.0, 1 << 63, True, "", "x", [], [1], [[]], {}, {"a": 1}])
SOURCES = st.fixed_dictionaries(
    {"url": st.one_of(URLS, st.lists(URLS, max_size=3))},
    optional={
        "digest": st.sampled_from([SHA256, SHA512, SHA256.upper(), SHA256 + "0", SHA256[:-1], "md5:00", ""]),
        "size": st.sampled_from([1, 0, -1, 1 << 63, 1.0]),
        "checksums": URLS,
        "pattern": st.sampled_from(["a", "*", "*/a", "b", "/a", "", "a?"]),
        "signature": URLS,
        "keyring": st.sampled_from(["", "images.toml", "none"]),
    },
)
IMAGES = st.fixed_dictionaries(
    {},
    optional={
        "x86_64": SOURCES,
        "aarch64": SOURCES | ODD,
        "amd64": SOURCES,
        "title": st.just(""),
        "kind": st.sampled_from(["disk", "rootfs", "oci"]) | ODD,
        "vhdx-size": st.sampled_from(["1TiB", "1MiB", "0", 1 << 30]) | ODD,
        "oci-compression": st.sampled_from(["zstd", "xz"]) | ODD,
        "qcow2-compression": st.sampled_from(["zstd", "xz"]) | ODD,
        "derive": st.lists(st.sampled_from(["fetch", "content", "raw", "vhd"]), max_size=3) | ODD,
        "url": URLS,
        "odd": ODD,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"images": st.dictionaries(st.sampled_from(["a", "A", "", "a b", "a\n", "list"]), IMAGES, max_size=2) | ODD},
    optional={
        "mirrors": st.dictionaries(URLS, st.lists(URLS, max_size=3) | ODD, max_size=2) | ODD,
        "cache": st.fixed_dictionaries({}, optional={"max-virtual-size": st.sampled_from(["1GB", "0", "9EB"]) | ODD})
        | ODD,
    },
)
#: How jsonschema itself speaks.
RAW = re.compile(
    r"does not match|is a required property|is a dependency|under any of|non-unique|non-empty|too short|too long"
    r"|enough properties|less than the minimum|greater than the maximum|is not of type|is not one of|unevaluated"
)


@pytest.mark.long
@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
def test_whatever_the_schema_refuses_is_refused_in_words(document: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
    Path("images.toml").write_text(text)
    valid = Draft7Validator(SCHEMA).is_valid(tomllib.loads(text))
    try:
        declaration = load(Path("images.toml"))
    except DeclarationError as error:
        for line in error.message.splitlines():
            assert re.match(r"images\.toml:\d+:\d+: ", line)
            assert not RAW.search(line)
    else:
        assert valid
        assert set(declaration.images) == set(document["images"])


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text("abxyz019._+-", min_size=1).filter(lambda name: name[0].isalnum()), SOURCES, min_size=1))
def test_what_is_accepted_is_valid_for_editors(sources: dict[str, Any]) -> None:
    digest = {"digest": SHA256, "size": 1, "url": "https://h/a"}
    document = {"images": {name: {"aarch64": {**source, **digest}} for name, source in sources.items()}}
    for image in document["images"].values():
        for key in ("checksums", "pattern", "signature", "keyring"):
            image["aarch64"].pop(key, None)
    Path("images.toml").write_text(f"images = {toml(document['images'])}")
    Draft7Validator(SCHEMA).validate(document)
    assert list(load(Path("images.toml")).images) == list(sources)


@pytest.mark.parametrize(("name", "kind"), [("a.tar.gz", "disk"), ("a.img", "rootfs"), ("a.tar", "oci")])
def test_what_is_declared_counts_and_the_name_is_a_default(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "images.toml"
    path.write_text(
        f"[images.a]\nkind = '{kind}'\n[images.a.x86_64]\nurl = 'https://h.example/{name}'\ndigest = '{SHA256}'\n"
    )
    assert load(path).images["a"]["x86_64"].kind == kind


class TestUrlsFromTheFolder:
    @pytest.mark.parametrize(
        ("url", "kind", "found"),
        [
            ("./disk.qcow2", "disk", "{folder}/disk.qcow2"),
            ("../a%20b/root.tar.gz", "rootfs", "{above}/a%20b/root.tar.gz"),
            ("./layout/", "oci", "{folder}/layout/"),
        ],
    )
    def test_are_file_urls(self, tmp_path: Path, url: str, kind: str, found: str) -> None:
        folder = tmp_path / "a project"
        folder.mkdir()
        (folder / "images.toml").write_text(
            f'[images.a.x86_64]\nurl = "{url}"\ndigest = "sha256:{"0" * 64}"\n', encoding="utf-8"
        )
        image = load(folder / "images.toml").images["a"]["x86_64"]
        expected = found.format(folder=folder.as_uri(), above=tmp_path.as_uri())
        assert (image.source.urls, image.kind) == ((expected,), kind)

    def test_lists_too(self, tmp_path: Path) -> None:
        (tmp_path / "images.toml").write_text('[images.a.x86_64]\nurl = "./a*.img"\nchecksums = "./SHA256SUMS"\n')
        source = load(tmp_path / "images.toml").images["a"]["x86_64"].source
        assert source.urls == (f"{tmp_path.as_uri()}/a*.img",)
        assert source.checksums == f"{tmp_path.as_uri()}/SHA256SUMS"

    @pytest.mark.parametrize("url", ["disk.qcow2", "/disk.qcow2", ".disk", "./", "./a b"])
    def test_or_none(self, tmp_path: Path, url: str) -> None:
        (tmp_path / "images.toml").write_text(
            f'[images.a.x86_64]\nurl = "{url}"\ndigest = "sha256:{"0" * 64}"\n', encoding="utf-8"
        )
        if url == "./":
            # The folder itself, as an image layout.
            assert load(tmp_path / "images.toml").images["a"]["x86_64"].kind == "oci"
            return
        with pytest.raises(DeclarationError, match=r"images\.toml:2:7: images\.a\.x86_64\.url: "):
            load(tmp_path / "images.toml")
