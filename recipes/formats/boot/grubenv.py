"""What GRUB keeps from one boot to the next: variables, such as the entry that was chosen last.

Specification: GNU GRUB Manual 2.12, "The GRUB environment block"; lib/envblk.c.
"""

from __future__ import annotations

_MAGIC = b"# GRUB Environment Block\n"
#: Bytes that are read; GRUB writes 1024.
MAX_SIZE = 64 << 10


def parse(text: bytes) -> dict[str, str]:
    """Return the variables in an environment block; none if it is not one.

    >>> parse(b"# GRUB Environment Block\\nsaved_entry=one\\n####")
    {'saved_entry': 'one'}
    """
    if not text.startswith(_MAGIC):
        return {}
    variables = {}
    # A backslash before the end of a line is a newline in the value, and before itself is one.
    lines = text[len(_MAGIC) :].replace(b"\\\\", b"\0").replace(b"\\\n", b"\1").split(b"\n")
    for line in lines:
        name, equals, value = line.partition(b"=")
        if equals and not name.startswith(b"#"):
            plain = value.replace(b"\1", b"\n").replace(b"\0", b"\\")
            variables[name.decode("utf-8", "replace")] = plain.decode("utf-8", "replace")
    return variables
