"""`doit help`: doit's own, and the exact next command for each client of an artifact."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from doit.cmd_help import Help as DoitHelp
from doit.exceptions import InvalidCommand

from recipes.console import tell
from recipes.derive.engine import RECIPES
from recipes.derive.oci import reference
from recipes.project import workspace

from .command import end_with_reader

if TYPE_CHECKING:
    from pathlib import Path

_USAGE = """
larder
  doit help KIND:IMAGE   the next command for each client, for example `doit help vhdx:debian-12`
"""

#: What to do with an artifact: {path} is where it is, {image} its image, {reference} what clients call an OCI image.
_NEXT = {
    "fetch": """
The original, as upstream serves it: {path}

  doit clone:{image} --format fetch --to FILE
""",
    "content": """
The original without its outer compression: {path}

  doit clone:{image} --format content --to FILE
""",
    "raw": """
A sparse RAW disk: {path}
Clone it, do not write to it: the cache hands it out again.

  a disk of its own       doit clone:{image} --to vm/disk.raw --size 40G
  an overlay, for QEMU    doit clone:{image} --format qcow2 --to vm/disk.qcow2
  Lima                    doit lima:{image}
                          doit lima:{image} --template
""",
    "rootfs": """
The root file system as a tar archive: {path}

  WSL2              wsl.exe --import {image} DIR "$(wslpath -w {path})"
  Lima (WSL2)       images: [{{location: {path}}}]
  docker            docker import {path} {image}
  podman            podman import {path} {image}
  Containerfile     ADD {path} /                    (after FROM scratch)
""",
    "vhdx": """
ext4 in a dynamic VHDX: {path}
A distribution that runs writes to its disk, and `wsl --unregister` deletes it. So clone it first; only `--import --vhd`
makes its own copy.

  WSL2, in place    doit clone:{image} --format vhdx --to DIR/ext4.vhdx
                    wsl.exe --import-in-place {image} "$(wslpath -w DIR/ext4.vhdx)"
  WSL2, copied      wsl.exe --import {image} DIR "$(wslpath -w {path})" --vhd

DIR is a folder on a Windows drive that no other distribution uses.
""",
    "oci": """
An OCI image layout and docker archive in one: {path}

  docker            docker load -i {path}
  podman            podman load -i {path}
  skopeo            skopeo copy oci-archive:{path} docker://REGISTRY/{image}
  Apple container   container image load -i {path}

  run it            docker run -it {reference}      (podman, container alike)
  build on it       FROM {reference}                (docker build, podman build, container build)
""",
}


class Help(DoitHelp):  # type: ignore[misc]
    """doit's help, with what larder's artifacts are for."""

    def execute(self, params: Any, args: list[str]) -> int:
        """Print what is asked for."""
        end_with_reader()
        status: int = super().execute(params, args)
        return status

    def print_usage(self, cmds: Any) -> None:
        """Print how doit is used, and how larder's help is asked for."""
        super().print_usage(cmds)
        sys.stdout.flush()
        tell(sys.stdout, _USAGE)

    def _execute(self, pos_args: list[str]) -> bool:
        """Print the help of a task, and what its artifact is for."""
        known: bool = super()._execute(pos_args)
        kind, colon, name = pos_args[0].partition(":")
        if colon and not known:
            # Commands have no colon in their names, so it is not doit's usage that was asked for.
            raise InvalidCommand(f"there is no task {pos_args[0]}; `doit list` shows them")
        if known and kind in RECIPES and workspace.is_open() and name in workspace.current().images:
            space = workspace.current()
            path = space.session.store.entry(space.images[name]).artifact(kind)
            sys.stdout.flush()
            tell(sys.stdout, next_commands(kind, name, path))
        return known


def next_commands(kind: str, name: str, path: Path) -> str:
    """Return what to do with the artifact of `kind` at `path`, of the image `name`."""
    return _NEXT[kind].format(path=shlex.quote(str(path)), image=name, reference=reference(name))
