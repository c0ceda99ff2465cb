"""Files that a server has, declared, and what becomes of them on the disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .project import Project


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def pin(project: Project, name: str, url: str, file: Path) -> None:
    """Declare `file`, served below `url`, as the image `name`."""
    source = {"url": f"{url}/{file.name}", "digest": digest(file), "size": file.stat().st_size}
    project.declared[name] = {"source": source}
    project.write()


def allocated(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
