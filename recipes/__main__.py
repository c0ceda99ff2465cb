"""One step alone, without cache or doit: ``python -m recipes KIND SRC DST`` for most kinds, and ``digest``."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar, get_args

from . import __version__
from .console import take_any_text
from .errors import Interrupted, LarderError
from .model import (
    DEFAULT_COMPRESSION,
    DEFAULT_EXT4_SIZE,
    DEFAULT_MAX_VIRTUAL_SIZE,
    DEFAULT_QCOW2_COMPRESSION,
    DEFAULT_VHDX_SIZE,
    Compression,
    Qcow2Compression,
)
from .redact import shown
from .rootplace import ANYWHERE, RootPlace
from .settings import ARCH_ALIASES, parse_jobs, processors
from .steps import disks
from .steps.step import Request, require_file
from .steps.step import shown as progress_shown
from .units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from .steps import trees

_Parsed = TypeVar("_Parsed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 1 for a LarderError, 2 for a bug, 130 where it was interrupted.

    Raise SystemExit with 3 for a command line that is wrong.
    """
    take_any_text(sys.stdout)
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    options.stop = threading.Event()
    try:
        with _stopped_by_signals(options.stop):
            report: str = options.run(options)
    except (Interrupted, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return 128 + signal.SIGINT
    except LarderError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except Exception:
        import traceback

        sys.stderr.write(traceback.format_exc())
        return 2
    sys.stdout.write(report)
    return 0


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM set `stop`, so that work ends where it is safe, and the second end it at once."""

    def handle(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit as larder does where the command line is wrong; argparse has 2 for it, which is that of a bug."""
        self.print_usage(sys.stderr)
        self.exit(3, f"{self.prog}: error: {message}\n")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser for these `arguments`: of the command that they name, or where they name none, of all."""
    # What is not used is left out here, since it takes as long as to convert a small image: the other commands, and the
    # width of the terminal, which argparse would have of shutil, and that loads three compressors.
    asked = arguments[0] if arguments else ""
    helps = not {"-h", "--help"}.isdisjoint(arguments)
    formatter = argparse.HelpFormatter if helps else partial(argparse.HelpFormatter, width=80)
    parser = _Parser(prog="python -m recipes", description=__doc__, formatter_class=formatter)
    parser.add_argument("--version", action="version", version=f"larder {__version__}")
    # With a prog of our own argparse need not format the usage, for which it imports shutil.
    commands = parser.add_subparsers(required=True, metavar="COMMAND", prog="python -m recipes")
    for name, (summary, declare) in COMMANDS.items() if asked not in COMMANDS else [(asked, COMMANDS[asked])]:
        declare(commands.add_parser(name, help=summary, formatter_class=formatter))
    return parser


def _declare_step(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC")
    parser.add_argument("destination", type=Path, metavar="DST")
    parser.add_argument("--json", action="store_true", help="print what was made as a receipt has it")
    parser.add_argument("--force", action="store_true", help="replace DST where it exists")
    parser.add_argument(
        "--jobs",
        type=_argument(parse_jobs),
        # argparse reads a text as if it had been on the command line.
        default=os.environ.get("LARDER_JOBS", "").strip() or processors(),
        metavar="N",
        help="threads (default: LARDER_JOBS, else the processors)",
    )
    parser.add_argument(
        "--max-virtual-size",
        type=_argument(parse_size),
        default=DEFAULT_MAX_VIRTUAL_SIZE,
        metavar="SIZE",
        help="refuse what claims more (default: %(default)s)",
    )


def _declare_tree(parser: argparse.ArgumentParser) -> None:
    _declare_step(parser)
    parser.add_argument(
        "--arch",
        choices=sorted(ARCH_ALIASES),
        default=os.uname().machine,
        metavar="ARCH",
        help="of an archive with several images, take this one (default: this machine's, %(default)s)",
    )
    parser.add_argument("--strip", default="", metavar="FOLDER", help="of a tarball, take this folder for the root")
    parser.add_argument(
        "--root",
        type=_argument(RootPlace.parse),
        default=ANYWHERE,
        metavar="PLACE",
        help='of a disk, take "partition N", "volume GROUP/NAME", "subvolume PATH" or "deployment NAME" for the root',
    )


def _declare_raw(parser: argparse.ArgumentParser) -> None:
    _declare_step(parser)
    parser.add_argument("--no-blkhash", action="store_true", help="do not compute the content digest")
    parser.set_defaults(run=_raw)


def _declare_content(parser: argparse.ArgumentParser) -> None:
    _declare_step(parser)
    parser.add_argument("--member", default="", metavar="NAME", help="take this disk out of an archive; * for anything")
    digests = parser.add_mutually_exclusive_group()
    digests.add_argument("--no-digests", action="store_true", help="compute no digest of the content")
    digests.add_argument(
        "--sha256", action="store_true", help="compute the sha256 of a disk too, not its blkhash alone"
    )
    parser.set_defaults(run=_content)


def _declare_rootfs(parser: argparse.ArgumentParser) -> None:
    _declare_tree(parser)
    parser.set_defaults(run=_rootfs)


def _declare_vhdx(parser: argparse.ArgumentParser) -> None:
    _declare_tree(parser)
    parser.add_argument(
        "--size",
        type=_argument(parse_size),
        default=DEFAULT_VHDX_SIZE,
        metavar="SIZE",
        help="of the virtual disk (default: %(default)s); it takes the room of its files only",
    )
    parser.set_defaults(run=_vhdx)


def _declare_written(parser: argparse.ArgumentParser, target: str) -> None:
    _declare_step(parser)
    parser.set_defaults(run=_write, target=target)


def _declare_qcow2(parser: argparse.ArgumentParser) -> None:
    _declare_written(parser, "qcow2")
    _declare_qcow2_compression(parser)


def _declare_qcow2_compression(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--compression",
        choices=get_args(Qcow2Compression),
        default=DEFAULT_QCOW2_COMPRESSION,
        help="of a QCOW2; zlib is for readers from before QEMU 5.1 (default: %(default)s)",
    )


def _declare_no_blkhash(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-blkhash",
        action="store_true",
        help="of a RAW or a VHD, compute no content digest: what shares the extents of SRC is there without being read",
    )


def _declare_vhd(parser: argparse.ArgumentParser) -> None:
    _declare_written(parser, target="vhd")
    _declare_no_blkhash(parser)


def _declare_convert(parser: argparse.ArgumentParser) -> None:
    _declare_step(parser)
    parser.add_argument("--member", default="", metavar="NAME", help="of an archive, take this disk; * for anything")
    parser.add_argument("--to", choices=tuple(disks.TARGETS), help="what to write (default: what DST's suffix says)")
    _declare_qcow2_compression(parser)
    _declare_no_blkhash(parser)
    parser.set_defaults(run=_convert)


def _declare_ext4(parser: argparse.ArgumentParser) -> None:
    _declare_tree(parser)
    parser.add_argument(
        "--size",
        type=_argument(parse_size),
        default=DEFAULT_EXT4_SIZE,
        metavar="SIZE",
        help="of the file system (default: %(default)s); it takes the room of its files only",
    )
    parser.add_argument("--no-journal", action="store_true", help="for a root that is thrown away after each run")
    parser.add_argument("--label", default="", help="of the file system, 16 bytes at the most")
    parser.set_defaults(run=_ext4)


def _declare_oci(parser: argparse.ArgumentParser) -> None:
    _declare_tree(parser)
    parser.add_argument(
        "--compression",
        choices=get_args(Compression),
        default=DEFAULT_COMPRESSION,
        help="of the layer (default: %(default)s)",
    )
    parser.add_argument("--name", metavar="NAME", help="what clients call it (default: after SRC)")
    parser.set_defaults(run=_oci)


def _declare_clone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SRC", help="a RAW disk; it is not written to")
    parser.add_argument("destination", type=Path, metavar="DST")
    parser.add_argument("--format", choices=("raw", "qcow2"), default="raw", help="qcow2: an overlay on its own RAW")
    parser.add_argument("--size", type=_argument(parse_size), metavar="SIZE", help="make the disk larger")
    parser.add_argument("--mode", choices=("auto", "reflink", "hardlink", "copy"), default="auto")
    parser.add_argument("--force", action="store_true", help="replace DST where it exists")
    parser.set_defaults(run=_clone)


def _declare_digest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("list", metavar="LIST", help="the list, as downloaded")
    parser.add_argument("--name", required=True, metavar="FILE", help="the file's name; * stands for what moves")
    parser.add_argument("--algorithm", "--algo", choices=("sha256", "sha512"), help="take this one of several")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_digest)


_ROOT = "the root file system in a RAW disk, a tarball, an archive of a container image or the folder of a layout"
#: Each command, what it does, and what declares its arguments.
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "raw": ("convert a disk image to a sparse RAW file", _declare_raw),
    "content": ("undo gzip, xz, bzip2 or zstd, with holes", _declare_content),
    "rootfs": (f"{_ROOT}, as a canonical tar archive", _declare_rootfs),
    "convert": ("any disk image, compressed or not, in another format", _declare_convert),
    "qcow2": ("a QCOW2 with compressed clusters, of a disk image", _declare_qcow2),
    "vmdk": (
        "a streamOptimized VMDK for vSphere and OVAs, of a disk image",
        partial(_declare_written, target="vmdk"),
    ),
    "vhd": ("a fixed VHD for Azure, of a disk image", _declare_vhd),
    "hyperv": (
        "a dynamic VHDX of the whole disk for Hyper-V, of a disk image",
        partial(_declare_written, target="vhdx"),
    ),
    "ext4": (f"{_ROOT}, as a bare ext4 for microVMs", _declare_ext4),
    "vhdx": (f"{_ROOT}, as ext4 in a VHDX for WSL2", _declare_vhdx),
    "oci": (f"{_ROOT}, as an archive for docker, podman, …", _declare_oci),
    "clone": ("copy a disk for an instance: reflink, or a copy without its holes", _declare_clone),
    "digest": ("show what a checksum list says of a file", _declare_digest),
}


def _argument(parse: Callable[[str], _Parsed]) -> Callable[[str], _Parsed]:
    """Let argparse print why `parse` refuses a word."""

    def parsed(text: str) -> _Parsed:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _request(options: argparse.Namespace) -> Request:
    return Request(
        options.source,
        options.destination,
        options.jobs,
        options.max_virtual_size,
        options.force,
        options.json,
        options.stop,
    )


def _wanted(options: argparse.Namespace) -> trees.Wanted:
    from .steps import trees

    return trees.Wanted(options.arch, options.strip, options.root)


def _raw(options: argparse.Namespace) -> str:
    return disks.raw(_request(options), blkhash=not options.no_blkhash)


def _content(options: argparse.Namespace) -> str:
    return disks.content(
        _request(options), digests=not options.no_digests, sha256=options.sha256, member=options.member
    )


def _write(options: argparse.Namespace) -> str:
    return disks.write(_request(options), _wish(options, options.target))


def _convert(options: argparse.Namespace) -> str:
    return disks.convert(_request(options), _wish(options, options.to or disks.target_of(options.destination)))


def _wish(options: argparse.Namespace, target: str) -> disks.Wish:
    compression = getattr(options, "compression", DEFAULT_QCOW2_COMPRESSION)
    return disks.Wish(target, compression, not getattr(options, "no_blkhash", False), getattr(options, "member", ""))


def _rootfs(options: argparse.Namespace) -> str:
    from .steps import trees

    return trees.rootfs(_request(options), _wanted(options))


def _vhdx(options: argparse.Namespace) -> str:
    from .steps import trees

    return trees.vhdx(_request(options), _wanted(options), size=options.size)


def _ext4(options: argparse.Namespace) -> str:
    from .steps import trees

    journal = not options.no_journal
    return trees.ext4(_request(options), _wanted(options), size=options.size, label=options.label, journal=journal)


def _oci(options: argparse.Namespace) -> str:
    from .steps import trees

    return trees.oci(_request(options), _wanted(options), compression=options.compression, name=options.name)


def _clone(options: argparse.Namespace) -> str:
    from .export.clone import Wish, clone
    from .formats.disk.foreign import refusal
    from .formats.io.probe import RAW_FORMATS, probe

    require_file(options.source)
    if (found := probe(options.source)) not in RAW_FORMATS:
        raise refusal(options.source, found, "a RAW disk")
    wish = Wish(options.format, options.size, None if options.mode == "auto" else options.mode, options.force)
    with progress_shown(options.stop) as progress:
        cloned = clone(options.source, options.destination, wish, progress=progress)
    return f"{cloned}\n"


def _digest(options: argparse.Namespace) -> str:
    import json

    from .sources import checksums

    if "://" in options.list:
        raise LarderError(
            f"{shown(options.list)}: expected a file, got a url",
            hint=f"`larder add NAME URL` asks upstream; for a list alone: curl -L -o LIST '{shown(options.list)}'",
        )
    try:
        text = Path(options.list).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LarderError(f"{options.list}: {error.strerror}") from error
    listed = checksums.parse(text).lookup(options.name, algorithm=options.algorithm)
    found = {
        "name": listed.name,
        "digest": str(listed.digest),
        "size": listed.size,
        "content": str(listed.content) if listed.content else None,
    }
    if options.json:
        return json.dumps(found, indent=1) + "\n"
    return "".join(f"{key:<8} {value}\n" for key, value in found.items() if value is not None)


if __name__ == "__main__":
    status = main()
    # What is to be freed goes with the process: Python would look at all of it twice, a tenth of a small image's time.
    gc.freeze()
    sys.exit(status)
