"""Physical volumes of LVM2: as its own tools make them, and byte by byte for what those do not make."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recipes.formats.fs.lvm import checksum
from tests.kit.ext4_images import tool
from tests.kit.oracles import lack, need

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Of the groups made here.
EXTENT = 1 << 20
#: Where the tools begin with extents.
PE_START = 1 << 20
AREA, AREA_SIZE = 4096, PE_START - 4096

UUIDS = ("a" * 32, "b" * 32)


def segment(at: int, count: int, *stripes: tuple[str, int], kind: str = "striped", stripe: int = 128) -> str:
    """Write a segment of `count` extents; `stripe` is in sectors."""
    listed = ", ".join(f'"{device}", {first}' for device, first in stripes)
    return (
        f'start_extent = {at}\nextent_count = {count}\ntype = "{kind}"\nstripe_count = {len(stripes)}\n'
        f"stripe_size = {stripe}\nstripes = [{listed}]\n"
    )


def volume(name: str, *segments: str, status: str = '"READ", "WRITE", "VISIBLE"') -> str:
    """Write a logical volume of such segments."""
    inner = "".join(f"segment{number} {{\n{each}}}\n" for number, each in enumerate(segments, 1))
    letter = name[0]
    uuid = "-".join(letter * count for count in (6, 4, 4, 4, 4, 4, 6))
    return f'{name} {{\nid = "{uuid}"\nstatus = [{status}]\nflags = []\nsegment_count = {len(segments)}\n{inner}}}\n'


def group(
    *volumes: str, uuids: Sequence[str] = UUIDS, sequence: int = 1, status: str = '"READ"', comment: str = ""
) -> str:
    """Write the metadata of a group on physical volumes with these UUIDs, pv0 and so on."""
    physical = "".join(
        f'pv{number} {{\nid = "{uuid[:6]}-{uuid[6:]}"\npe_start = {PE_START // 512}\n}}\n'
        for number, uuid in enumerate(uuids)
    )
    return (
        f'contents = "Text {{ \\"Group\\" }}" # {comment}\nversion = 1\nvg {{\nid = "group"\nseqno = {sequence}\n'
        f"extent_size = {EXTENT // 512} # not a = brace {{\nstatus = [{status}]\n"
        f"physical_volumes {{\n{physical}}}\nlogical_volumes {{\n{''.join(volumes)}}}\n}}\n"
    )


def physical(
    path: Path, uuid: str, text: str | None, size: int = 8 << 20, *, offset: int = 512, areas: Sequence[int] = (AREA,)
) -> Path:
    """Write a physical volume to `path`, its text `offset` bytes into each of the metadata `areas`."""
    listed = [(PE_START, 0), (0, 0), *((at, AREA_SIZE if at == AREA else 1 << 19) for at in areas), (0, 0)]
    rest = struct.pack("<I8s", 32, b"LVM2 001") + uuid.encode() + struct.pack("<Q", size)
    rest += b"".join(struct.pack("<QQ", *each) for each in listed)
    rest = rest.ljust(512 - 20, b"\0")
    with path.open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), struct.pack("<8sQI", b"LABELONE", 1, checksum(rest)) + rest, 512)
        for at, length in listed[2:-1]:
            data = b"" if text is None else text.encode() + b"\0"
            location = struct.pack("<QQII", offset, len(data), checksum(data), 0) if data else bytes(24)
            header = struct.pack("<16sIQQ", b" LVM2 x[5A%r0N*>", 1, at, length) + location
            header = header.ljust(508, b"\0")
            os.pwrite(file.fileno(), struct.pack("<I", checksum(header)) + header, at)
            first = data[: length - offset]
            os.pwrite(file.fileno(), first, at + offset)
            os.pwrite(file.fileno(), data[len(first) :], at + 512)
    return path


def lvm(*command: str) -> str:
    """Run one of LVM's tools; they warn of a kernel without the device mapper, and do what these tests need."""
    return subprocess.run(command, capture_output=True, text=True, check=True, close_fds=True).stdout


@contextmanager
def loops(*images: Path) -> Iterator[list[str]]:
    """Give the devices of `images`; skip where nobody may."""
    if sys.platform != "linux" or os.getuid() != 0:
        lack("a loop device takes Linux, and root")
    need("losetup", "pvcreate", "vgcreate", "vgcfgrestore")
    devices: list[str] = []
    try:
        for image in images:
            done = subprocess.run(["losetup", "-f", "--show", image], capture_output=True, text=True)
            if done.returncode:
                lack(f"losetup: {done.stderr.strip()}")
            devices.append(done.stdout.strip())
        yield devices
    finally:
        for device in devices:
            tool("losetup", "-d", device)


def make(images: Sequence[Path], name: str, *volumes: str, tags: int = 0) -> None:
    """Have LVM's tools make `images` one group with `volumes`, and change it as often as it is to have `tags`."""
    with loops(*images) as devices:
        lvm("pvcreate", "-qq", "-y", *devices)
        lvm("vgcreate", "-qq", "-s", f"{EXTENT}b", name, *devices)
        backup = images[0].with_suffix(".txt")
        lvm("vgcfgbackup", "-f", str(backup), name)
        text = backup.read_text()
        end = text.rindex("}")
        backup.write_text(f"{text[:end]}logical_volumes {{\n{''.join(volumes)}}}\n{text[end:]}")
        lvm("vgcfgrestore", "-f", str(backup), name)
        for number in range(tags):
            lvm("vgchange", "-qq", "--addtag", f"{number:0900d}", name)
        # What is still in the cache of the device is in the file, too.
        lvm("blockdev", "--flushbufs", *devices)
