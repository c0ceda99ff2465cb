"""Single steps from a root file system, wherever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from recipes.settings import ARCH_ALIASES

from .step import Request, run

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.formats.tree.tree import Tree
    from recipes.model import Compression
    from recipes.progress import Progress
    from recipes.rootplace import RootPlace


class Wanted(NamedTuple):
    """Which root file system is wanted of a file that may have several."""

    #: A machine's name for it.
    arch: str
    strip: str
    root: RootPlace


def _tree(request: Request, wanted: Wanted, draft: Path, progress: Progress) -> Tree:
    from recipes.formats import rootfs

    which = rootfs.Wanted(None, ARCH_ALIASES[wanted.arch], wanted.strip, wanted.root)
    return rootfs.open_tree(request.source, request.context(draft, progress), which)


def rootfs(request: Request, wanted: Wanted) -> str:
    """Write a canonical tar archive."""
    from recipes.formats import rootfs

    def make(draft: Path, progress: Progress) -> dict[str, Any]:
        with _tree(request, wanted, draft, progress) as tree:
            return {"digest": rootfs.write(tree, draft, request.context(draft, progress))}

    return run(request, "rootfs", make, folders=True)


def vhdx(request: Request, wanted: Wanted, *, size: int) -> str:
    """Write ext4 in a VHDX of `size` bytes, for WSL2."""
    from recipes.formats.wsl import write_vhdx

    def make(draft: Path, progress: Progress) -> dict[str, Any]:
        with _tree(request, wanted, draft, progress) as tree:
            return {"blkhash": write_vhdx(tree, draft, request.context(draft, progress), size=size)}

    return run(request, "vhdx", make, folders=True)


def ext4(request: Request, wanted: Wanted, *, size: int, label: str, journal: bool) -> str:
    """Write a bare ext4 of `size` bytes."""
    from recipes.formats import microvm

    def make(draft: Path, progress: Progress) -> dict[str, Any]:
        with _tree(request, wanted, draft, progress) as tree:
            for lack in microvm.lacks(tree):
                progress.note(lack)
            context = request.context(draft, progress)
            return {"blkhash": microvm.write_ext4(tree, draft, context, size=size, label=label, journal=journal)}

    return run(request, "ext4", make, folders=True)


def oci(request: Request, wanted: Wanted, *, compression: Compression, name: str | None) -> str:
    """Write an archive for docker, podman and the like, which call it `name` (None: after the source)."""
    from recipes.derive.oci import reference
    from recipes.formats.oci import archive as oci_archive

    def make(draft: Path, progress: Progress) -> dict[str, Any]:
        with _tree(request, wanted, draft, progress) as tree:
            called = reference(name or request.source.resolve().name.partition(".")[0].lower())
            about = oci_archive.About(ARCH_ALIASES[wanted.arch], called, {})
            context = request.context(draft, progress)
            return {"blkhash": oci_archive.write(tree, draft, about, context, compression=compression).blkhash}

    return run(request, "oci", make, folders=True)
