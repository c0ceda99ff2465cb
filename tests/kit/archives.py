"""Archives with disks in them, as GNU tar and zip make them."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING

from recipes.formats.archive.read import members as read_members
from recipes.formats.io.source import BytesSource

from .oracles import need

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from recipes.formats.archive.member import Member

#: The options of GNU tar for each way to store holes.
SPARSE = {
    "gnu": ["--format=gnu", "-S"],
    "oldgnu": ["--format=oldgnu", "-S"],
    "pax 0.0": ["--format=posix", "-S", "--sparse-version=0.0"],
    "pax 0.1": ["--format=posix", "-S", "--sparse-version=0.1"],
    "pax 1.0": ["--format=posix", "-S", "--sparse-version=1.0"],
    "none": ["--format=ustar"],
}


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive with these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive with these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def gnu_tar(path: Path, how: str, *files: Path) -> Path:
    """Have GNU tar write `files`, which are in one folder, with holes stored as `SPARSE` has it."""
    need("tar")
    names = [file.name for file in files]
    subprocess.run(["tar", *SPARSE[how], "-C", files[0].parent, "-cf", path, *names], check=True)
    return path


def members(data: bytes, form: str) -> list[Member]:
    """Return the files of the archive `data`."""
    return read_members(BytesSource(data, "archive"), form, stored=len(data))


def content(member: Member) -> bytes:
    """Return all of a member."""
    return member.read(1 << 40)


def ovf(*names: str, more: str = "", of_disk: str = "") -> bytes:
    """Return a descriptor with a disk in each of these files."""
    files = "".join(f'<File ovf:href="{name}" ovf:id="file{at}" {more}/>' for at, name in enumerate(names))
    disks = "".join(
        f'<Disk ovf:capacity="1" ovf:diskId="vmdisk{at}" ovf:fileRef="file{at}" {of_disk}/>'
        for at, _ in enumerate(names)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>{files}</References>
  <DiskSection><Info>disks</Info>{disks}<Disk ovf:capacity="9" ovf:diskId="empty"/></DiskSection>
</Envelope>""".encode()


def manifest(files: Mapping[str, bytes], algorithm: str = "sha256") -> bytes:
    """Return a manifest of these files."""
    lines = (f"{algorithm.upper()}({name})= {hashlib.new(algorithm, data).hexdigest()}" for name, data in files.items())
    return "\n".join(lines).encode() + b"\n"
