from __future__ import annotations

from tests.sources.conftest import nobody, quick_and_alone

__all__ = ["nobody", "quick_and_alone"]
