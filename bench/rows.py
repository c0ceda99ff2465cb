"""The jobs that are measured, each with what a user would do it with instead."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.debian import GiB, run

from . import images, project
from .measure import Contender, Row

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

ROOT = Path(__file__).resolve().parent.parent


class Unavailable(Exception):
    """A row cannot be measured on this machine; the message says why."""


@dataclass(frozen=True)
class Kit:
    """What rows are made from."""

    #: The RAW disk whose formats are measured, and what to call it.
    disk: Path
    title: str
    #: Where the commands write; it is emptied.
    folder: Path
    #: What a row holds until it has been measured.
    stack: ExitStack
    #: Images in the graph that is measured.
    declared: int

    def variant(self, form: str) -> Path:
        """Return the disk as `form`; see `images.variant`."""
        return images.variant(self.disk, form)


def _larder(step: str, source: Path, *options: str) -> Contender:
    label = " ".join(("**larder**", *(f"`{option}`" for option in options)))
    return Contender(label, (sys.executable, "-m", "recipes", step, *options, str(source), "DST"))


def _qemu_img(source: Path, *options: str) -> Contender:
    words = ("qemu-img", "convert", *options, "-O", "raw")
    return Contender(f"`{' '.join(words)}`", (*words, str(source), "DST"))


def _same_disk(ours: Path, theirs: Path) -> None:
    """Compare disks; qemu-img skips what is a hole in both."""
    if ours.stat().st_size != theirs.stat().st_size:
        raise ValueError(f"{ours}: {ours.stat().st_size} bytes, {theirs}: {theirs.stat().st_size}")
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", ours, theirs)


def _to_raw(kit: Kit, name: str, form: str, title: str, goal: str) -> Row:
    source = kit.variant(form)
    rivals = (_qemu_img(source), _qemu_img(source, "-W", "-m", "16"))
    return Row(name, f"{title} → RAW, {kit.title}", _with_and_without(source), rivals, kit.folder, goal, _same_disk)


def _written(kit: Kit, name: str, form: str, ours: tuple[str, ...], theirs: tuple[str, ...], goal: str) -> Row:
    """Return the row of a RAW that becomes `form`, as qemu-img calls it, by our options and by its."""
    larder = _larder("convert", kit.disk, *ours)
    words = ("qemu-img", "convert", "-O", form, *theirs)
    rival = Contender(f"`{' '.join(words)}`", (*words, str(kit.disk), "DST"))

    def same(one: Path, other: Path) -> None:
        run("qemu-img", "compare", "-q", "-f", form, "-F", form, one, other)

    title = f"RAW → {name.removeprefix('to-')}, {kit.title}"
    return Row(name, title, (larder,), (rival,), kit.folder, goal, same)


def _to_vhd(kit: Kit, name: str) -> Row:
    folder = mounted(kit, name, 12 * GiB)
    source = folder / "disk.raw"
    run("cp", "--sparse=always", kit.disk, source)
    ours = tuple(_larder("convert", source, "--to=vhd", *options) for options in ((), ("--no-blkhash",)))
    words = ("qemu-img", "convert", "-O", "vpc", "-o", "subformat=fixed,force_size=on")
    rival = Contender(f"`{' '.join(words)}`", (*words, str(source), "DST"))

    def same(one: Path, other: Path) -> None:
        run("qemu-img", "compare", "-q", "-f", "vpc", "-F", "vpc", one, other)

    return Row(f"to-vhd-{name}", f"RAW → fixed VHD on {name}, {kit.title}", ours, (rival,), folder, "< 0.1 s", same)


def _with_and_without(source: Path) -> tuple[Contender, Contender]:
    """Return the conversion with the content digest, which no rival computes, and without."""
    return _larder("raw", source), _larder("raw", source, "--no-blkhash")


def mounted(kit: Kit, name: str, size: int) -> Path:
    """Return a new file system called `name`, of `size` bytes, for as long as the row is measured."""
    if os.getuid() != 0:
        raise Unavailable("mounting a file system needs root")
    return kit.stack.enter_context(images.mounted(images.FILE_SYSTEMS[name], size))


def _shared(kit: Kit, name: str) -> Row:
    plain = kit.variant("plain.qcow2")
    folder = mounted(kit, name, 3 * plain.stat().st_size + GiB)
    source = folder / plain.name
    shutil.copyfile(plain, source)
    rivals = (_qemu_img(source, "-C"), _qemu_img(source))
    title = f"QCOW2 uncompressed → RAW on {name}"
    return Row(name, title, _with_and_without(source), rivals, folder, "1 x `-C`", _same_disk)


def _huge(kit: Kit) -> Row:
    source = images.huge()
    title = "QCOW2 of 1 TiB, 1 MiB of data → RAW"
    goal = "wall < 1 s"
    return Row("huge", title, (_larder("raw", source),), (_qemu_img(source),), kit.folder, goal, _same_disk)


def _content(kit: Kit, name: str, form: str, tool: tuple[str, ...], goal: str) -> Row:
    source = kit.variant(form)
    rival = Contender(f"`{' '.join(tool)} >`", (*tool, str(source)), to_stdout=True)
    title = f"{form} → sparse RAW, first GiB of it"
    ours = (_larder("content", source), _larder("content", source, "--no-digests"))
    return Row(name, title, ours, (rival,), kit.folder, goal, _same_disk)


def _archived(kit: Kit) -> Row:
    source = kit.variant("tar.xz")
    # Under the name of the output, with its holes.
    unpack = 'XZ_DEFAULTS=-T0 tar -xJPf "$0" --transform "s|.*|$1|"'
    rival = Contender("`tar -xJ`, with `xz -T0`", ("sh", "-c", unpack, str(source), "DST"))
    ours = tuple(_larder("convert", source, "--to=raw", *options) for options in ((), ("--no-blkhash",)))
    return Row("tar-xz", f"disk.raw in a tar.xz → RAW, {kit.title}", ours, (rival,), kit.folder, "1 x", _same_disk)


#: Clones the first word as the second, a hundred times.
_HUNDRED = """
import sys
from pathlib import Path
from recipes.export.clone import Wish, clone
for _ in range(100):
    clone(Path(sys.argv[2]), Path(sys.argv[3]), Wish(sys.argv[1], force=True))
"""


def _hundred(form: str, source: Path) -> Contender:
    return Contender("a hundred of ours in one process", (sys.executable, "-c", _HUNDRED, form, str(source), "DST"))


_STARTS = Contender("of ours: python starts", (sys.executable, "-c", "pass"))


def _reflink(kit: Kit, name: str) -> Row:
    folder = mounted(kit, name, 2 * GiB)
    source = folder / "disk.raw"
    run("cp", "--sparse=always", kit.disk, source)
    cp = Contender("`cp --reflink=always`", ("cp", "--reflink=always", str(source), "DST"))
    title = f"RAW → clone on {name}, {kit.title}"
    parts = (_STARTS, _hundred("raw", source))
    return Row(f"clone-{name}", title, (_larder("clone", source),), (cp,), folder, "5 ms each", _same_disk, parts)


def _sparse_copy(kit: Kit) -> Row:
    cp = Contender("`cp --sparse=always`", ("cp", "--sparse=always", str(kit.disk), "DST"))
    qemu_img = _qemu_img(kit.disk, "-f", "raw")
    title = f"RAW → clone where nothing is shared, {kit.title}"
    ours = (_larder("clone", kit.disk, "--mode=copy"),)
    return Row("clone-ext4", title, ours, (cp, qemu_img), kit.folder, "1 x", _same_disk)


def _overlay(kit: Kit) -> Row:
    # A hard link takes the same file system.
    source = kit.folder / "disk.raw"
    os.link(kit.disk, source)
    kit.stack.callback(source.unlink)
    words = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b")
    rival = Contender(f"`{' '.join(words)}`", (*words, str(source), "DST"))
    ours = (_larder("clone", source, "--format=qcow2", "--force"),)
    kit.stack.callback(_unlink_bases, kit.folder)
    title = f"RAW → overlay, {kit.title}"
    return Row("overlay", title, ours, (rival,), kit.folder, "20 ms each", None, (_STARTS, _hundred("qcow2", source)))


def _unlink_bases(folder: Path) -> None:
    for base in folder.glob("*.base.raw"):
        base.unlink()


def _graph(kit: Kit) -> Row:
    folder = kit.folder / "graph"
    kit.stack.callback(shutil.rmtree, folder, ignore_errors=True)
    environ = project.larder(folder / "larder", kit.declared, ROOT)
    project.make(folder / "make", kit.declared)
    project.ninja(folder / "ninja", kit.declared)
    doit = (sys.executable, "-m", "doit")
    at = ("-f", str(folder / "larder" / "dodo.py"))

    import_dodo = f"import sys; sys.path.insert(0, {str(folder / 'larder')!r}); import dodo"

    def part(label: str, *arguments: str) -> Contender:
        return Contender(label, (sys.executable, *arguments), environ=environ)

    return Row(
        "graph",
        f"{kit.declared} images, all current",
        (Contender("**`doit raw`**", (*doit, *at, "raw"), environ=environ),),
        (
            Contender("`make`", ("make", "-s", "-C", str(folder / "make"))),
            Contender("`ninja`", ("ninja", "--quiet", "-C", str(folder / "ninja"))),
        ),
        folder,
        "cpu < 1.5 s",
        parts=(
            part("of it: python starts", "-c", "pass"),
            part("… and doit is imported", "-c", "import doit.doit_cmd"),
            part("… and `dodo.py` is", "-c", import_dodo),
            part("… and the graph is loaded: `doit list`", "-m", "doit", "list", *at),
        ),
    )


ROWS: dict[str, Callable[[Kit], Row]] = {
    "zlib": lambda kit: _to_raw(kit, "zlib", "zlib.qcow2", "QCOW2 zlib", "2.5 x, peak < 100 MiB"),
    "zstd": lambda kit: _to_raw(kit, "zstd", "zstd.qcow2", "QCOW2 zstd", "1.8 x"),
    "plain": lambda kit: _to_raw(kit, "plain", "plain.qcow2", "QCOW2 uncompressed", "1 x"),
    "xfs": lambda kit: _shared(kit, "xfs"),
    "btrfs": lambda kit: _shared(kit, "btrfs"),
    "vmdk-raw": lambda kit: _to_raw(kit, "vmdk-raw", "stream.vmdk", "streamOptimized VMDK", "3 x"),
    "vdi-raw": lambda kit: _to_raw(kit, "vdi-raw", "vdi", "VDI", "1 x"),
    "vhd-raw": lambda kit: _to_raw(kit, "vhd-raw", "vhd", "dynamic VHD", "1 x"),
    "vhdx-raw": lambda kit: _to_raw(kit, "vhdx-raw", "vhdx", "VHDX", "1 x"),
    "to-zlib": lambda kit: _written(
        *(kit, "to-qcow2-zlib", "qcow2", ("--to=qcow2", "--compression=zlib"), ("-c", "-W", "-m", "16"), "3 x")
    ),
    "to-zstd": lambda kit: _written(
        *(kit, "to-qcow2-zstd", "qcow2", ("--to=qcow2",)),
        ("-c", "-W", "-m", "16", "-o", "compression_type=zstd"),
        "1.3 x",
    ),
    "to-vmdk": lambda kit: _written(kit, "to-vmdk", "vmdk", ("--to=vmdk",), ("-o", "subformat=streamOptimized"), "4 x"),
    "to-vhd-xfs": lambda kit: _to_vhd(kit, "xfs"),
    "to-vhd-btrfs": lambda kit: _to_vhd(kit, "btrfs"),
    "huge": _huge,
    "gz": lambda kit: _content(kit, "gz", "raw.gz", ("gzip", "-dc"), "3 x"),
    "zst": lambda kit: _content(kit, "zst", "raw.zst", ("zstd", "-dc"), "1 x"),
    "xz": lambda kit: _content(kit, "xz", "raw.xz", ("xz", "-T0", "-dc"), "1 x"),
    "xz-multi": lambda kit: _content(kit, "xz-multi", "multi.raw.xz", ("xz", "-T0", "-dc"), "1.5 x"),
    "tar-xz": _archived,
    "clone-xfs": lambda kit: _reflink(kit, "xfs"),
    "clone-btrfs": lambda kit: _reflink(kit, "btrfs"),
    "clone-ext4": lambda kit: _sparse_copy(kit),
    "overlay": lambda kit: _overlay(kit),
    "graph": _graph,
}
