"""fstab(5): what is mounted where."""

from __future__ import annotations

import re
from typing import NamedTuple

#: What stands for fields that a line has not; the first two it must have.
_DEFAULTS = (b"", b"", b"auto", b"defaults")
#: Where it is, and bytes that are read of it.
PATH = b"etc/fstab"
MAX_SIZE = 1 << 20


class Entry(NamedTuple):
    """A line of fstab."""

    #: ``UUID=…``, ``/dev/…`` and so on, without quotes.
    device: str
    #: As bytes of a path, with its slash.
    mount_point: bytes
    type: str
    #: Options by name; those without a value have an empty one.
    options: dict[str, str]


def parse(text: bytes) -> list[Entry]:
    """Return the entries of an fstab, without lines that have no mount point or are comments.

    Escapes, three octal digits after a backslash, may stand in any of the fields; a value may be in quotes.

    >>> parse(b'LABEL="a\\040b" /srv\\t xfs subvol=x,noauto 0 0')
    [Entry(device='LABEL=a b', mount_point=b'/srv', type='xfs', options={'subvol': 'x', 'noauto': ''})]
    """
    entries = []
    for line in text.split(b"\n"):
        # A value in quotes may hold blanks.
        fields = re.findall(rb'(?:"[^"]*"|[^\s"])+', line)
        if len(fields) < 2 or fields[0].startswith(b"#"):
            continue
        whole = (*fields[:4], *_DEFAULTS[len(fields) :])
        device, mount_point, kind, options = (_plain(field) for field in whole)
        entries.append(Entry(_text(device), mount_point, _text(kind), parse_options(_text(options))))
    return entries


def parse_options(text: str) -> dict[str, str]:
    """Return the options of a mount by name; those without a value have an empty one.

    >>> parse_options("ro,subvol=/a=b")
    {'ro': '', 'subvol': '/a=b'}
    """
    words = (word.partition("=") for word in text.split(","))
    return {name: value for name, _, value in words}


def _plain(field: bytes) -> bytes:
    return re.sub(rb"\\([0-3][0-7]{2})", lambda match: bytes([int(match[1], 8)]), field.replace(b'"', b""))


def _text(field: bytes) -> str:
    return field.decode("utf-8", "surrogateescape")
