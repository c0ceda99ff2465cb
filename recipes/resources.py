"""The files that come with larder: the catalogue, its demo disk, the schemas."""

from __future__ import annotations

from pathlib import Path


def find(name: str) -> Path:
    """Return where the file `name` is, a path below the top of the repository.

    A wheel carries them within the package (pyproject.toml, force-include), a checkout has them beside it.
    """
    package = Path(__file__).parent
    installed = package / name
    return installed if installed.is_file() else package.parent / name
