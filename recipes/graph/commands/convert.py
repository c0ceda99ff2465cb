"""`larder convert`: a disk image in another format, without the cache."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, get_args

from doit.cmd_base import Command
from doit.exceptions import InvalidCommand

from recipes import interruption
from recipes.errors import Interrupted
from recipes.model import DEFAULT_MAX_VIRTUAL_SIZE, DEFAULT_QCOW2_COMPRESSION, Qcow2Compression
from recipes.settings import expand, parse_jobs, processors
from recipes.units import parse_size

from .command import INTERRUPTED, JSON, show
from .spoken import Spoken

if TYPE_CHECKING:
    from collections.abc import Callable

#: As QEMU calls them, and the step calls them too; a test holds them against each other.
_TARGETS = ("raw", "qcow2", "vmdk", "vhd", "vhdx")


class Convert(Spoken, Command):  # type: ignore[misc]
    """`larder convert`."""

    doc_purpose = "write any disk image in another format"
    doc_usage = "SRC DST"
    doc_description = """Reads RAW, QCOW2, VMDK, VHD, VHDX and VDI, also compressed (gzip, xz, bzip2, zstd) and in \
an archive (tar, zip, OVA, Vagrant box), and writes what the suffix of DST says: .raw or .img, .qcow2 (with compressed \
clusters), .vmdk (streamOptimized, for vSphere), .vhd (fixed, for Azure), .vhdx (dynamic, for Hyper-V). What SRC is, \
its bytes say and never its name.

Needs no project and leaves nothing in the cache. DST is there whole or not at all. Same disk, same bytes."""
    cmd_options = (
        {
            "name": "to",
            "long": "to",
            "default": "",
            "metavar": "FORMAT",
            "choices": tuple((each, "") for each in _TARGETS),
            "help": "what to write (default: what the suffix of DST says)",
        },
        {
            "name": "member",
            "long": "member",
            "default": "",
            "metavar": "NAME",
            "help": "which file of an archive is the disk, if it has several; * stands for anything",
        },
        {
            "name": "compression",
            "long": "compression",
            "default": DEFAULT_QCOW2_COMPRESSION,
            "metavar": "CODEC",
            "choices": tuple((each, "") for each in get_args(Qcow2Compression)),
            "help": "of a QCOW2: zlib is for readers from before QEMU 5.1",
        },
        {
            "name": "jobs",
            "long": "jobs",
            "default": "",
            "metavar": "N",
            "help": "threads (default: LARDER_JOBS, else the processors)",
        },
        {
            "name": "limit",
            "long": "max-virtual-size",
            "default": DEFAULT_MAX_VIRTUAL_SIZE,
            "metavar": "SIZE",
            "help": "refuse a disk that claims more",
        },
        {
            "name": "no_blkhash",
            "long": "no-blkhash",
            "type": bool,
            "default": False,
            "help": "of a RAW or a VHD, compute no content digest: what shares extents is there without being read",
        },
        {"name": "force", "long": "force", "type": bool, "default": False, "help": "replace DST where it exists"},
        JSON,
    )

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Convert, and say what was made."""
        from threading import Event

        from recipes.steps import disks
        from recipes.steps.step import Request

        if len(pos_args) != 2:
            raise InvalidCommand(
                f"convert: expected SRC and DST, got {len(pos_args)} words; `larder help convert` says more"
            )
        source, destination = map(expand, pos_args)
        jobs = opt_values["jobs"] or os.environ.get("LARDER_JOBS", "").strip()
        stop = Event()
        request = Request(
            source,
            destination,
            _read("--jobs", parse_jobs, jobs) if jobs else processors(),
            _read("--max-virtual-size", parse_size, opt_values["limit"]),
            opt_values["force"],
            opt_values["json"],
            stop,
        )
        with interruption.heard(stop.set) as heard:
            try:
                target = opt_values["to"] or disks.target_of(destination)
                wish = disks.Wish(target, opt_values["compression"], not opt_values["no_blkhash"], opt_values["member"])
                show(disks.convert(request, wish).rstrip())
            except (KeyboardInterrupt, Interrupted):
                heard.bid_farewell()
                return INTERRUPTED
        return 0


def _read(option: str, parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidCommand(f"convert: {option}: {error}") from None
