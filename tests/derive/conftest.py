from __future__ import annotations

from tests.sources.conftest import nobody

__all__ = ["nobody"]
