"""Disks in registries, by whichever convention: which entry of an index is the disk, and which layer of a manifest.

podman's machine images (pkg/machine/ocipull: ``disktype`` annotations, architectures as the kernel calls them), Fedora
CoreOS' (``artifactType application/vnd.diskimage.TYPE``, where ``platform.os`` is what the disk is for), KubeVirt's
``vnd.kubevirt.disk`` layers (enhancement 256), artifacts with one layer as oras makes them, and larder's own, which are
podman's too. A container image is KubeVirt's containerDisk, whose disk is a file in its layers. Pure, no I/O.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from recipes.errors import ImageError, UnsupportedFeature, printable
from recipes.formats.oci.spec import CONFIGS, LAYERS, MANIFESTS, Platform
from recipes.settings import ARCH_ALIASES

from .manifests import Index, Manifest, no_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recipes.formats.oci.spec import Descriptor
    from recipes.model import Arch

    from .manifests import Named

_DISKIMAGE = "application/vnd.diskimage."
_KUBEVIRT = "application/vnd.kubevirt.disk."
_TART = "application/vnd.cirruslabs.tart."
_TITLE = "org.opencontainers.image.title"
_DISK_NAME = "io.kubevirt.disk.name"
#: What a disk is taken as where nobody says: of podman's the one that costs least to read, of CoreOS' a machine's.
_PREFERRED = ("raw", "qcow2", "vhdx"), ("qemu",)
#: podman's WSL archives are no disks.
_NO_DISKS = frozenset({"tar"})
_DISK_FILE = re.compile(r"\.(qcow2|raw|img|vmdk|vdi|vhdx?)(\.(gz|xz|bz2|zst))?", re.IGNORECASE)
#: Choices that an error lists at the most.
_MOST_LISTED = 20


def candidates(index: Index, arch: Arch, disktype: str, where: str) -> tuple[Descriptor, ...]:
    """Return the entry for the disk of `arch`, or else the entries to look into; never none.

    `disktype` is what podman calls the disk, its type, what it is for, or both as FOR/TYPE; empty where one of them
    goes without saying. Raise UnsupportedFeature, which lists what there is, where none fits or several do.
    """
    disks = [each for each in index.manifests if each.media_type in MANIFESTS and _type(each)]
    if not disks:
        found = index.candidates(arch)
        if not found:
            raise no_image(arch, index.platforms(), where)
        return found
    fitting = [each for each in disks if _is_for(each, arch) and _type(each) not in _NO_DISKS]
    chosen = [each for each in fitting if disktype in _names(each)] if disktype else _by_preference(fitting)
    # podman takes the first of several that are called the same.
    if chosen and (len({each.digest for each in chosen}) == 1 or len({_shown(each) for each in chosen}) == 1):
        return (chosen[0],)
    listed = sorted({_shown(each) for each in (chosen or disks)})
    more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    there = f"{', '.join(listed[:_MOST_LISTED])}{more}"
    if chosen:
        raise UnsupportedFeature(
            f"{where}: there are several disks for {Platform.of(arch)}: {there}",
            hint="declare disktype to say which",
        )
    wanted = f" with disktype {printable(disktype)!r}" if disktype else ""
    raise UnsupportedFeature(f"{where}: there is no disk for {Platform.of(arch)}{wanted}, only {there}")


def layer(manifest: Manifest, disktype: str, where: str) -> Descriptor | None:
    """Return the layer of `manifest` that is the disk; `disktype` may name one of several KubeVirt disks.

    None for a container image, which may have the disk as a file.

    Raise UnsupportedFeature where it has none, or several and nothing says which.
    """
    layers = manifest.layers
    types = [manifest.artifact_type, *(each.media_type for each in layers)]
    if any(each.startswith(_TART) for each in types):
        raise UnsupportedFeature(f"{where}: tart's pieces of a disk are not read")
    if manifest.config.media_type in CONFIGS:
        return None
    found: Sequence[Descriptor]
    kubevirt = [each for each in layers if each.media_type.startswith(_KUBEVIRT)]
    if kubevirt:
        found = [each for each in kubevirt if disktype in ("", each.annotations.get(_DISK_NAME))]
    elif manifest.artifact_type.startswith(_DISKIMAGE):
        # Its readers take the first layer, and no more.
        found = layers[:1]
    elif len(layers) > 1:
        found = [each for each in layers if _DISK_FILE.search(str(each.annotations.get(_TITLE, "")))]
    else:
        found = layers
    if len(found) != 1:
        names = (each.annotations.get(_DISK_NAME) or each.annotations.get(_TITLE) or each.media_type for each in layers)
        listed = ", ".join(printable(str(each)[:100]) for each in list(names)[:_MOST_LISTED]) or "nothing at all"
        hint = "declare the disk's name as disktype" if kubevirt else None
        raise UnsupportedFeature(f"{where}: expected one layer that is a disk, found {listed}", hint=hint)
    return found[0]


def chosen(named: Named, arch: Arch, disktype: str, where: str) -> Descriptor | Manifest:
    """Return the entry that `candidates` finds in what a tag names, or the manifest that it names, which has a disk.

    Errors: those of `candidates` and `layer`.
    """
    document = named.document
    if isinstance(document, Manifest):
        layer(document, disktype, where)
        return document
    return candidates(document, arch, disktype, where)[0]


def machines(document: Manifest | Index) -> tuple[Arch, ...]:
    """Return the architectures that an index has a disk for; none for a manifest, which does not say."""
    if isinstance(document, Manifest):
        return ()
    known = dict.fromkeys(ARCH_ALIASES.values())
    disks = [
        each for each in document.manifests if each.media_type in MANIFESTS and _type(each) not in {"", *_NO_DISKS}
    ]
    return tuple(arch for arch in known if any(_is_for(each, arch) for each in disks))


def has_containers(document: Manifest | Index) -> bool:
    """Say whether what a tag names may be, or have, a container image as well as a disk, or instead of one."""
    if isinstance(document, Manifest):
        types = {document.config.media_type} & CONFIGS, {each.media_type for each in document.layers} & LAYERS
        return any(types)
    # An index within may have anything, an artifact of no known convention too; attestations are for the platform
    # unknown/unknown.
    return not machines(document) or any(
        each.media_type not in MANIFESTS
        or not (_type(each) or each.artifact_type or (each.platform and each.platform.os == "unknown"))
        for each in document.manifests
    )


def _type(entry: Descriptor) -> str:
    """Return the type of the disk that an entry of an index says to be; empty where it says nothing of the kind."""
    disktype = entry.annotations.get("disktype")
    if isinstance(disktype, str) and disktype:
        return disktype
    return entry.artifact_type.removeprefix(_DISKIMAGE) if entry.artifact_type.startswith(_DISKIMAGE) else ""


def _purpose(entry: Descriptor) -> str:
    """Return what an entry of CoreOS' convention is for: qemu, metal, live; empty for any other."""
    return entry.platform.os if entry.platform and entry.artifact_type.startswith(_DISKIMAGE) else ""


def _names(entry: Descriptor) -> set[str]:
    kind, purpose = _type(entry), _purpose(entry)
    return {kind, purpose, f"{purpose}/{kind}"} - {""}


def _is_for(entry: Descriptor, arch: Arch) -> bool:
    """Say whether machines of `arch` start the disk; `os` is another thing in each convention."""
    platform = entry.platform
    return platform is not None and platform._replace(os="linux").runs_on(arch)


def _by_preference(fitting: list[Descriptor]) -> list[Descriptor]:
    types, purposes = _PREFERRED
    for name in (*types, *purposes):
        found = [each for each in fitting if (_purpose(each) or _type(each)) == name]
        if found:
            return found
    return fitting


def _shown(entry: Descriptor) -> str:
    architecture = entry.platform.architecture if entry.platform else ""
    return printable("/".join(filter(None, (_purpose(entry), _type(entry), architecture))))


def explained(error: ImageError, where: str) -> ImageError:
    """Return `error` with the place of the document that it is about."""
    return type(error)(f"{where}: {error.message}", hint=error.hint)
