"""What the wheel has that no file of the repository is: the man pages."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface):  # type: ignore[type-arg]
    """Makes the man pages, for share/man beside the program's bin/."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages, and have them put into the wheel."""
        sys.path.insert(0, self.root)
        try:
            from man.pages import write
        finally:
            sys.path.remove(self.root)
        self._folder = Path(tempfile.mkdtemp())
        pages = write(self._folder)
        build_data["shared_data"] |= {str(path): f"share/man/{name}" for path, name in pages.items()}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel has by now."""
        shutil.rmtree(self._folder)
