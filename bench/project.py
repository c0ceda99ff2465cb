"""One graph for larder, make and ninja: many images, each resolved and then derived, all of them current."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes of each image: enough to be a disk, little enough for thousands.
_IMAGE_SIZE = 64 << 10


def larder(folder: Path, count: int, root: Path) -> dict[str, str]:
    """Make a project of `count` RAW images below `folder`, derive them all, and return the environment for it."""
    folder.mkdir(parents=True)
    shutil.copy(root / "dodo.py", folder)
    declarations = []
    for number in range(count):
        data = number.to_bytes(8, "big") * (_IMAGE_SIZE // 8)
        source = folder / f"source-{number:04}.raw"
        source.write_bytes(data)
        table = f'images."image-{number:04}"'
        declarations.append(
            f'[{table}]\ntitle = "Image {number}"\nderive = ["raw"]\n[{table}.x86_64]\nurl = "{source.as_uri()}"\n'
            f'digest = "sha256:{hashlib.sha256(data).hexdigest()}"\nsize = {len(data)}\n'
        )
    (folder / "images.toml").write_text("\n".join(declarations), encoding="utf-8")
    environ = {
        "LARDER_CACHE": str(folder / "cache"),
        "LARDER_IMAGES": str(folder / "images.toml"),
        "LARDER_ARCH": "x86_64",
    }
    command = [sys.executable, "-m", "doit", "-f", str(folder / "dodo.py"), "raw"]
    subprocess.run(command, check=True, env={**os.environ, **environ}, stdout=subprocess.DEVNULL)
    return environ


def make(folder: Path, count: int) -> None:
    """Make the same graph for make below `folder`, everything in it current."""
    rules = ["all: " + " ".join(f"raw-{number:04}" for number in range(count))]
    for number in range(count):
        rules.append(f"resolve-{number:04}: source-{number:04}\n\ttouch $@")
        rules.append(f"raw-{number:04}: resolve-{number:04}\n\ttouch $@")
    _stand(folder, count, "Makefile", rules, "make")


def ninja(folder: Path, count: int) -> None:
    """Make the same graph for ninja below `folder`, everything in it current."""
    rules = ["rule touch\n command = touch $out"]
    for number in range(count):
        rules.append(f"build resolve-{number:04}: touch source-{number:04}")
        rules.append(f"build raw-{number:04}: touch resolve-{number:04}")
    _stand(folder, count, "build.ninja", rules, "ninja")


def _stand(folder: Path, count: int, name: str, rules: list[str], tool: str) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text("\n".join(rules) + "\n", encoding="utf-8")
    for number in range(count):
        (folder / f"source-{number:04}").touch()
    subprocess.run([tool, "-C", str(folder)], check=True, stdout=subprocess.DEVNULL)
