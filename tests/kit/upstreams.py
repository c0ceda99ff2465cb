"""Folders as upstreams have them: images, and the lists beside them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sums(algorithm: str, *files: Path, tag: bool = False) -> str:
    """Return a list as sha256sum writes it; with `tag`, as ``--tag`` does."""
    lines = []
    for file in files:
        digits = hashlib.new(algorithm, file.read_bytes()).hexdigest()
        lines.append(f"{algorithm.upper()} ({file.name}) = {digits}\n" if tag else f"{digits}  {file.name}\n")
    return "".join(lines)


#: How the list is called beside ``FILE``, of which STEM is the name without its endings, and what writes it.
def shape(name: str, image: Path) -> str:
    """Write the list called `name`, in which FILE and STEM stand for parts of the image's name; return its name."""
    name = name.replace("FILE", image.name).replace("STEM", image.name.partition(".")[0])
    algorithm = "sha512" if "512" in name else "sha256"
    if name.endswith(".json"):
        text = json.dumps({"file_name": image.name, "file_sha256": hashlib.sha256(image.read_bytes()).hexdigest()})
    elif name.endswith((".sha256", ".sha512")) and not name.startswith("CHECKSUM"):
        text = hashlib.new(algorithm, image.read_bytes()).hexdigest() + "\n"
    else:
        text = sums(algorithm, image, tag="CHECKSUM" in name)
    (image.parent / name).write_text(text)
    return name
