"""Which member of an archive is the disk: what is declared, else what the archive says, else the only one.

An OVA says it by its descriptor, a Vagrant box by its metadata.json, an image for Google Compute Engine by the name
``disk.raw``. Where several could be it nothing is guessed.
"""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import CorruptImage, UnsupportedFeature, printable
from recipes.formats.io import probe
from recipes.units import format_size

from . import ovf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .member import Member

#: What Google's images and Debian's call it.
_RAW = "disk.raw"
#: Names that a disk has, perhaps compressed once more.
_DISK_NAME = re.compile(r"\.(raw|img|qcow2|vmdk|vhd|vhdx|vdi)(\.(gz|xz|zst|bz2))?$", re.IGNORECASE)
#: What is beside a disk, and what macOS puts into archives.
_NEVER = re.compile(r"(^|/)(__MACOSX/|\._)|\.(ovf|mf|cert|nvram|vmx|txt|md|json|asc|sig)$", re.IGNORECASE)
#: Members whose beginnings are looked at.
_LOOKED_AT = 100
_SHOWN = 20


class Choice(NamedTuple):
    """The disk of an archive."""

    member: Member
    #: Digests that the archive's own manifest has.
    sums: tuple[ovf.Sum, ...] = ()
    #: What of those is of no file that is there.
    missing: tuple[ovf.Sum, ...] = ()

    def of(self, member: Member) -> list[ovf.Sum]:
        """Return what the manifest says of `member`."""
        return [each for each in self.sums if each.name in (member.name, member.base)]


def choose(members: Sequence[Member], archive: str, pattern: str = "") -> Choice:
    """Return which of the `members` of `archive` is the disk; `pattern` (fnmatch) names one for certain.

    The pattern is held against the whole name and against its last part. Errors: `UnsupportedFeature` where none is it,
    or several could be, with the names and sizes of what there is; `CorruptImage` for names twice, or that lead out of
    the archive; those of `ovf`.
    """
    _require_plain(members, archive)
    sums = _sums(members, archive)
    there = {name for each in members for name in (each.name, each.base)}
    missing = tuple(each for each in sums if each.name not in there)
    if pattern:
        found = [each for each in members if fnmatchcase(each.name, pattern) or fnmatchcase(each.base, pattern)]
        return Choice(_only(found, members, archive, f"called {printable(pattern)}"), sums, missing)
    named = _named(members, archive)
    if named is not None:
        by_name = {each.name: each for each in members}
        if absent := [each for each in named if each not in by_name]:
            raise CorruptImage(f"{archive}: expected {', '.join(map(printable, absent))} in it, which is not there")
        return Choice(_only([by_name[each] for each in named], members, archive, "that it names"), sums, missing)
    raw = [each for each in members if each.base == _RAW and not _NEVER.search(each.name)]
    if len(raw) == 1:
        return Choice(raw[0], sums, missing)
    return Choice(_only(_likely(members), members, archive), sums, missing)


def _only(found: Sequence[Member], members: Sequence[Member], archive: str, which: str = "") -> Member:
    if len(found) == 1:
        return found[0]
    there = found or members
    listed = ", ".join(f"{printable(each.name)} ({format_size(each.size)})" for each in there[:_SHOWN])
    if len(there) > _SHOWN:
        listed += f" and {len(there) - _SHOWN} more"
    expected = f"expected one disk {which}".rstrip()
    hint = 'member = "NAME" in images.toml says which; * stands for anything. In single steps --member does the same'
    if not found:
        hint += '. A root file system in a tarball is kind = "rootfs"'
    raise UnsupportedFeature(f"{archive}: {expected} in the archive, found {listed or 'no file'}", hint=hint)


def _require_plain(members: Sequence[Member], archive: str) -> None:
    """Raise CorruptImage for names that lead out of the archive, or that two files have: readers differ in those."""
    seen: set[str] = set()
    for member in members:
        if member.name.startswith("/") or ".." in member.name.split("/"):
            raise CorruptImage(f"{archive}: the name {printable(member.name)} leads out of the archive")
        if member.name in seen:
            raise CorruptImage(f"{archive}: two files are called {printable(member.name)}")
        seen.add(member.name)


def _sums(members: Sequence[Member], archive: str) -> tuple[ovf.Sum, ...]:
    """Return what the manifest of an OVA says; a file of that kind without a descriptor beside it is none."""
    if not any(each.name.lower().endswith(".ovf") for each in members):
        return ()
    manifests = [each for each in members if each.name.lower().endswith(".mf")]
    if len(manifests) > 1:
        raise CorruptImage(f"{archive}: has {len(manifests)} manifests")
    return tuple(
        found for each in manifests for found in ovf.sums(each.read(ovf.LIMIT), f"{archive}: {printable(each.name)}")
    )


def _named(members: Sequence[Member], archive: str) -> list[str] | None:
    """Return the names that the archive's own descriptor gives its disks; None where it has none."""
    descriptors = [each for each in members if each.name.lower().endswith(".ovf") and not _NEVER.match(each.name)]
    if len(descriptors) > 1:
        raise UnsupportedFeature(
            f"{archive}: has {len(descriptors)} descriptors (OVF)",
            hint='member = "NAME" in images.toml says which disk',
        )
    for each in descriptors:
        folder = each.name[: len(each.name) - len(each.base)]
        return [folder + name for name in ovf.disks(each.read(ovf.LIMIT), f"{archive}: {printable(each.name)}")]
    for each in members:
        if each.base == "metadata.json":
            return _of_box(each, members, archive)
    return None


def _of_box(metadata: Member, members: Sequence[Member], archive: str) -> list[str] | None:
    """Return the disks of a Vagrant box for libvirt (vagrant-libvirt, box format); None if its metadata names none."""
    try:
        said = json.loads(metadata.read(ovf.LIMIT))
    except ValueError:
        raise CorruptImage(f"{archive}: {printable(metadata.name)}: expected JSON") from None
    folder = metadata.name[: len(metadata.name) - len(metadata.base)]
    if isinstance(said, dict) and isinstance(said.get("disks"), list):
        paths = [each.get("path") for each in said["disks"] if isinstance(each, dict)]
        return [folder + path for path in paths if isinstance(path, str)]
    if any(each.name == f"{folder}box.img" for each in members):
        return [f"{folder}box.img"]
    return None


def is_never(name: str) -> bool:
    """Say whether a file of this name is surely no disk, and is beside one."""
    return _NEVER.search(name) is not None


def _likely(members: Sequence[Member]) -> list[Member]:
    """Return the members that are disks, by what they begin with or by what they are called."""
    candidates = [each for each in members if not _NEVER.search(each.name) and each.size]
    by_name = [each for each in candidates if _DISK_NAME.search(each.name)]
    return by_name or [each for each in candidates[:_LOOKED_AT] if _is_disk(each.head(probe.HEAD))]


def _is_disk(head: bytes) -> bool:
    name = probe.detect(head)
    return name in probe.DISK_FORMATS or (name in probe.RAW_FORMATS and probe.has_structure(head))
