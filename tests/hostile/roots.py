"""What leads to a root: the metadata of LVM2, what ostree deployed, and the texts of boot loaders and fstab."""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from recipes.formats.boot import bls, cmdline, grub
from recipes.formats.boot.entries import entries as boot_entries
from recipes.formats.fs import fstab, ostree
from recipes.formats.io.context import Context
from recipes.formats.rootfs import write
from recipes.formats.tar import read as tar_read
from recipes.formats.tree.contents import contents
from recipes.formats.tree.tree import Node, Tree
from tests.kit import lvm_images
from tests.kit.oci_images import file, folder, hardlink, symlink, tar

from .filesystems import damage_tar, ext4, read_rootfs
from .mutate import LONGEST, damage, damage_text, grow
from .target import Target

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random
    from tarfile import TarInfo

# LVM2: an input is the text, a zero byte, and what lies in the extents. Labels and checksums are made around it.


def _read_volumes(path: Path, out: Path) -> None:
    text, _, content = path.read_bytes().partition(b"\0")
    image = path.with_name("physical")
    size = lvm_images.PE_START + max(len(content), 8 * lvm_images.EXTENT)
    try:
        lvm_images.physical(image, lvm_images.UUIDS[0], text.decode("utf-8", "replace"), size)
        with image.open("r+b") as disk:
            os.pwrite(disk.fileno(), content, lvm_images.PE_START)
        read_rootfs("disk", image, out)
    finally:
        image.unlink()


def lvm_input(*volumes: str, content: bytes = b"") -> bytes:
    """Return the input for a group of these volumes."""
    return lvm_images.group(*volumes, uuids=lvm_images.UUIDS[:1]).encode() + b"\0" + content


def _volume_seeds(where: Path) -> list[bytes]:
    system = ext4(where, 2048, "-t", "ext4", "-O", "^metadata_csum,^uninit_bg,^resize_inode,^has_journal")
    whole = lvm_images.volume("root", lvm_images.segment(0, 2, ("pv0", 0)))
    other = lvm_images.volume("other", lvm_images.segment(0, 2, ("pv0", 4)))
    halves = (lvm_images.segment(0, 1, ("pv0", 0)), lvm_images.segment(1, 1, ("pv0", 1)))
    stripes = lvm_images.segment(0, 2, ("pv0", 0), ("pv0", 4))
    thin = lvm_images.volume("thin", lvm_images.segment(0, 2, ("pv0", 0), kind="thin"))
    return [
        lvm_input(whole, other, content=system),
        lvm_input(lvm_images.volume("root", *halves), thin, content=system),
        lvm_input(lvm_images.volume("striped", stripes), content=_in_stripes(system)),
    ]


def _in_stripes(content: bytes) -> bytes:
    """Return what lies in the extents where every other 64 KiB is on another one, four further on."""
    unit = 64 << 10
    pieces = [content[at : at + unit] for at in range(0, len(content), unit)]
    return b"".join(pieces[::2]).ljust(4 * lvm_images.EXTENT, b"\0") + b"".join(pieces[1::2])


def _damage_volumes(rng: Random, data: bytes, others: list[bytes]) -> bytes:
    text, zero, content = data.partition(b"\0")
    if rng.random() < 0.1:
        return text + zero + damage(rng, content or b"\0", others)
    texts = [other.partition(b"\0")[0] for other in others]
    return damage_text(rng, text or b"a", texts).replace(b"\0", b" ") + zero + content


def _grow_volumes(rng: Random, data: bytes) -> bytes:
    text, zero, content = data.partition(b"\0")
    return grow(rng, text)[: LONGEST // 2].replace(b"\0", b" ") + zero + content


# ostree: an input is the file system around deployments, as a tar archive.


def _read_deployment(path: Path, out: Path) -> None:
    with tar_read.load(path) as tree:
        ostree.deploy(tree, "disk", "", boot_entries(tree, b"boot"))
        write(tree, out, Context(durable=False))


def sysroot(*names: str, entry: str, more: tuple[tuple[TarInfo, bytes], ...] = ()) -> bytes:
    """Return an archive with deployments of these names, of which `entry` boots."""
    deploy = "ostree/deploy/fcos/deploy"
    members = [
        folder("ostree"),
        file("ostree/repo/objects/aa/b.file", b"#!"),
        folder("ostree/deploy/fcos/var"),
        file("ostree/deploy/fcos/var/lib/state", b"kept"),
        symlink("boot/loader", "loader.1"),
        file(
            "boot/loader.1/entries/ostree-1.conf",
            f"title x\nversion 1\noptions ostree=/ostree/boot.1/{entry} $more\n".encode(),
        ),
        file("boot/grub2/grubenv", b"# GRUB Environment Block\nsaved_entry=ostree-1\nmore=quiet\n"),
        symlink("ostree/boot.1", "boot.1.1"),
        symlink(f"ostree/boot.1.1/{entry}", f"../deploy/fcos/deploy/{entry}"),
    ]
    for name in names:
        members += [
            hardlink(f"{deploy}/{name}/usr/bin/sh", "ostree/repo/objects/aa/b.file"),
            hardlink(f"{deploy}/{name}/usr/bin/bash", "ostree/repo/objects/aa/b.file"),
            file(f"{deploy}/{name}/usr/etc/hostname", b"fcos"),
            symlink(f"{deploy}/{name}/home", "var/home"),
            file(f"{deploy}/{name}.origin", b"x"),
        ]
    return tar(*members, *more)


def _deployment_seeds(_: Path) -> list[bytes]:
    return [
        sysroot("a.0", entry="a.0"),
        sysroot("a.0", "b.1", entry="b.1", more=(file("ostree/deploy/fcos/deploy/b.1/etc/fstab", b"x"),)),
        sysroot("a.0", entry="nowhere"),
    ]


# Texts.


def _read_texts(path: Path, out: Path) -> None:
    data = path.read_bytes()
    tree = Tree(len(data))
    for name in (fstab.PATH, b"grub2/grub.cfg", b"grub2/grubenv", b"loader/entries/a+1-2.conf", b"loader/loader.conf"):
        tree.add(name, Node(stat.S_IFREG | 0o644, size=len(data), data=data))
    lines = fstab.parse(contents(tree, fstab.PATH, fstab.MAX_SIZE) or b"")
    entries = [*bls.entries(tree), *grub.entries(tree)]
    arguments = [cmdline.arguments(entry.options) for entry in entries]
    out.write_bytes(repr((lines, bls.environment(tree), entries, arguments)).encode("utf-8", "surrogateescape"))


def _text_seeds(_: Path) -> list[bytes]:
    return [
        b'UUID=1-2 / btrfs subvol=root,compress=zstd:1 0 0\n# no\nLABEL="a b" /a\\040b ext4\n/swap none swap sw\n',
        b"# GRUB Environment Block\nsaved_entry=a\noptions=a\\\nb\\\\c\n####",
        b'title A\nversion 1\nlinux /vmlinuz\ninitrd /a $b\noptions root="UUID=1 2" ro $kernelopts ${x}\nsort-key a\n',
        b'set default="0"\nmenuentry \'A b\' --id x {\n linux /v root=LABEL="a b" ${x} \\\n ro\n initrd /i\n}\n'
        b"submenu B {\n menuentry C { linux /w\n}\n}\n",
        # Almost as long as an entry may be.
        b"options ro\n" * 5900,
    ]


TARGETS = (
    Target("lvm", _volume_seeds, _damage_volumes, _read_volumes, None, ("mke2fs",), _grow_volumes),
    Target("ostree", _deployment_seeds, damage_tar, _read_deployment),
    Target("boot", _text_seeds, damage_text, _read_texts),
)


def _entries(count: int, text: bytes) -> bytes:
    more = tuple(file(f"boot/loader.1/entries/{number}.conf", text) for number in range(count))
    return sysroot("a.0", entry="a.0", more=more)


#: Inputs that cost much, by the target that they are for: what `tests.hostile.costly` begins with.
LVM = {
    "sections in a section": lambda: b"vg {\n" + b"a{}" * 330_000 + b"}\0",
    "sections in sections": lambda: b"a{" * 500_000 + b"\0",
    "a list": lambda: b"vg { a = [" + b"1," * 500_000 + b"] }\0",
    "a string of escapes": lambda: b'vg { a = "' + b'\\"' * 500_000 + b'" }\0',
    "strings without an end": lambda: b'"\\' * 500_000 + b"\0",
    "volumes": lambda: lvm_input(
        *(lvm_images.volume(f"v{number}", lvm_images.segment(0, 2, ("pv0", 0))) for number in range(256))
    ),
    "segments": lambda: lvm_input(
        lvm_images.volume("v", *(lvm_images.segment(number, 1, ("pv0", 0)) for number in range(6000)))
    ),
}
OSTREE = {
    "entries": lambda: _entries(255, b"options " + b"a" * 60_000),
    "versions": lambda: _entries(255, b"version " + b"1.a-" * 15_000),
    "variables": lambda: _entries(255, b"options " + b"$more " * 10_000),
    "arguments": lambda: _entries(255, b"options " + b"ostree=/ostree/boot.1/a.0/.. " * 2000),
    "deployments": lambda: sysroot(*(f"{number}.0" for number in range(800)), entry="7.0"),
    "links in etc": lambda: sysroot(
        "a.0",
        entry="a.0",
        more=tuple(
            hardlink(f"ostree/deploy/fcos/deploy/a.0/usr/etc/{number}", "ostree/repo/objects/aa/b.file")
            for number in range(6000)
        ),
    ),
}
BOOT = {
    "quotes": lambda: b'"' * 500_000,
    "a field": lambda: b"a" * 500_000 + b" /",
    "options": lambda: b"a / b " + b"c," * 250_000,
    "escapes": lambda: b"a /" + b"\\040" * 120_000,
    "backslashes": lambda: b"# GRUB Environment Block\na=" + b"\\" * 60_000,
    "variables": lambda: b"options " + b"$a" * 30_000,
    "lines": lambda: b"a b\n" * 250_000,
    "menu entries": lambda: b"menuentry a {\nlinux /x\n}\n" * 200 + b"{" * 60_000,
    "words of GRUB": lambda: b"a " * 32_000 + b"${a" * 10_000 + b"\\" * 3000,
    "apostrophes": lambda: b"a'" * 30_000,
}
BOMBS = {
    f"{target}: {what}": (target, partial(make))
    for target, bombs in (("lvm", LVM), ("ostree", OSTREE), ("boot", BOOT))
    for what, make in bombs.items()
}
