"""images.toml: from text to values, problems with line and column, editing in place."""

from .declaration import Declaration, load, loads, shown

__all__ = ["Declaration", "load", "loads", "shown"]
