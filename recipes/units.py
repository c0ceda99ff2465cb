"""Sizes, durations and times as people and other programs write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

#: The largest size of a file: what off_t holds.
MAX_SIZE = (1 << 63) - 1

_PREFIXES = "KMGTPE"
_SIZE = re.compile(r"(\d{1,30})(?:\.(\d{1,30}))? ?(?:([kmgtpe])(i?b)?|b)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Return the bytes that `text` stands for, rounded down.

    Units are those of GNU coreutils ("Block size"): ``GB`` is 1000³, ``GiB`` and ``G`` are 1024³, none or ``B`` is
    bytes. Case does not matter, and one space may stand before the unit. Raise ValueError with the reason otherwise.

    >>> parse_size("512MiB"), parse_size("1.5 GB"), parse_size("2T")
    (536870912, 1500000000, 2199023255552)
    >>> parse_size("many")
    Traceback (most recent call last):
    ValueError: expected a size such as "20GB", "512MiB" or "2TiB", got 'many'
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f'expected a size such as "20GB", "512MiB" or "2TiB", got {text!r}')
    whole, fraction, prefix, suffix = match.groups(default="")
    base = 1000 if suffix.lower() == "b" else 1024
    factor = base ** (_PREFIXES.index(prefix.upper()) + 1) if prefix else 1
    # Integers throughout: a float loses bytes from 8 PiB on.
    size: int = int(whole + fraction) * factor // 10 ** len(fraction)
    if size > MAX_SIZE:
        raise ValueError(f"{text!r} is more than a file can have ({MAX_SIZE} bytes)")
    return size


def format_size(size: int) -> str:
    """Return `size` bytes for a person: binary units, one decimal (``1.2 GiB``), plain below 1 KiB (``512 B``).

    >>> format_size(512), format_size(1288490188)
    ('512 B', '1.2 GiB')
    """
    if abs(size) < 1024:
        return f"{size} B"
    exponent = 1
    # 1023.95 and more would be printed as 1024.0.
    while abs(size) >= 1023.95 * 1024**exponent and exponent < len(_PREFIXES):
        exponent += 1
    return f"{size / 1024**exponent:.1f} {_PREFIXES[exponent - 1]}iB"


def format_duration(seconds: float) -> str:
    """Return a duration for a person, in its two largest units: ``0.4 s``, ``45 s``, ``1 min 5 s``, ``2 h 3 min``.

    >>> format_duration(0.42), format_duration(65), format_duration(7380)
    ('0.4 s', '1 min 5 s', '2 h 3 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def now() -> str:
    """Return the time in UTC, to the second, as RFC 3339 has it: ``2026-12-01T08:15:00Z``."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
