"""POSIX access control lists in their four forms: extended attribute, ext4's own, XFS's own, text.

The extended attribute (linux/posix_acl_xattr.h, version 2) is what getxattr(2) gives and what a `Node` holds. ext4
keeps another form on the disk (fs/ext4/acl.h, version 1), which leaves out the ids that mean nothing, and XFS one of
its own (fs/xfs/xfs_acl.h). Archives may hold text (acl_from_text(3), and star's fourth field with the number of a
name). Numbers are little-endian but in XFS's.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import CorruptImage, UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The names of the attributes that hold a list.
ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"

#: Tags (linux/posix_acl.h); a list is in their order.
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NAMED = (_USER, _GROUP)
#: The id of an entry that names nobody.
_NO_ID = 0xFFFFFFFF

_VERSION = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_SHORT = struct.Struct("<HH")
#: XFS counts the entries, and has them in its own order, big-endian: tag, id, permissions.
_XFS_COUNT = 4
_XFS_ENTRY = struct.Struct(">IIH2x")
_XATTR_VERSION = 2
_EXT4_VERSION = 1

_TEXT_TAGS = {
    **dict.fromkeys(("user", "u"), (_USER_OBJ, _USER)),
    **dict.fromkeys(("group", "g"), (_GROUP_OBJ, _GROUP)),
    **dict.fromkeys(("mask", "m"), (_MASK, None)),
    **dict.fromkeys(("other", "o"), (_OTHER, None)),
}
_WORDS = {_USER_OBJ: "user", _USER: "user", _GROUP_OBJ: "group", _GROUP: "group", _MASK: "mask", _OTHER: "other"}
_PERMISSION_BITS = (("r", 4), ("w", 2), ("x", 1))
_PERMISSIONS = re.compile("[r-][w-][x-]")
_ID = re.compile("[0-9]{1,10}")


class _Entry(NamedTuple):
    tag: int
    permissions: int
    id: int = _NO_ID


def check(value: bytes) -> None:
    """Raise CorruptImage unless the kernel would take `value` for an extended attribute that holds a list."""
    _checked(_from_xattr(value))


def equivalent_mode(value: bytes) -> tuple[int, bool]:
    """Return the nine permission bits that a mode has beside this access list, and whether they say all that it says.

    The kernel sets these bits with the list, and keeps no list then that says no more (posix_acl_update_mode()).
    Errors: as `check`.
    """
    by_tag = {entry.tag: entry.permissions for entry in _checked(_from_xattr(value))}
    group = by_tag.get(_MASK, by_tag[_GROUP_OBJ])
    return by_tag[_USER_OBJ] << 6 | group << 3 | by_tag[_OTHER], len(by_tag) == 3


def to_ext4(value: bytes) -> bytes:
    """Return ext4's form of an extended attribute. Errors: as `check`."""
    parts = [_VERSION.pack(_EXT4_VERSION)]
    for entry in _checked(_from_xattr(value)):
        parts.append(_ENTRY.pack(*entry) if entry.tag in _NAMED else _SHORT.pack(*entry[:2]))
    return b"".join(parts)


def from_ext4(value: bytes) -> bytes:
    """Return the extended attribute for ext4's form. Errors: `CorruptImage` for what cannot be a list."""
    _expect_version(value, _EXT4_VERSION)
    entries = []
    at = _VERSION.size
    while at < len(value):
        tag = int.from_bytes(value[at : at + 2], "little")
        size = _ENTRY.size if tag in _NAMED else _SHORT.size
        if at + size > len(value):
            raise CorruptImage(f"an access control list ends in the middle of an entry, at byte {at} of {len(value)}")
        entries.append(_Entry(*(_ENTRY if tag in _NAMED else _SHORT).unpack_from(value, at)))
        at += size
    return _to_xattr(_checked(entries))


def from_xfs(value: bytes) -> bytes:
    """Return the extended attribute for XFS's form. Errors: `CorruptImage` for what cannot be a list."""
    count = int.from_bytes(value[:_XFS_COUNT], "big")
    if len(value) != _XFS_COUNT + count * _XFS_ENTRY.size:
        raise CorruptImage(f"an access control list of {count} entries has {len(value)} bytes")
    entries = (_Entry(tag, permissions, id_) for tag, id_, permissions in _XFS_ENTRY.iter_unpack(value[_XFS_COUNT:]))
    return _to_xattr(_checked([entry if entry.tag in _NAMED else entry._replace(id=_NO_ID) for entry in entries]))


def from_text(text: str) -> bytes:
    """Return the extended attribute for a list in words, such as ``user::rw-,user:lisa:r--:1001,…,other::---``.

    Entries are separated by commas or newlines and may be in any order; a comment begins with ``#``. Errors:
    `CorruptImage`; `UnsupportedFeature` for a user or group without a number, whom only the machine knows where the
    archive was written.
    """
    lines = (line.partition("#")[0].strip() for part in text.split("\n") for line in part.split(","))
    # As libacl does; the kernel insists on the order of the tags.
    return _to_xattr(
        _checked(sorted((_entry(line) for line in lines if line), key=lambda entry: (entry.tag, entry.id)))
    )


def to_text(value: bytes) -> str:
    """Return an extended attribute in words, as `from_text` reads them, with numbers for names. Errors: as `check`."""
    lines = []
    for tag, permissions, id_ in _checked(_from_xattr(value)):
        letters = "".join(letter if permissions & bit else "-" for letter, bit in _PERMISSION_BITS)
        lines.append(f"{_WORDS[tag]}:{id_ if tag in _NAMED else ''}:{letters}")
    return ",".join(lines)


def _entry(line: str) -> _Entry:
    kind, *fields = line.split(":")
    tags = _TEXT_TAGS.get(kind)
    if tags and tags[1] is None and len(fields) == 1:
        # Solaris leaves the empty name out.
        fields.insert(0, "")
    if tags is None or len(fields) not in (2, 3) or not _PERMISSIONS.fullmatch(fields[1]):
        raise CorruptImage(f"expected an access control list, found the entry {line[:80]!r}")
    permissions = sum(bit for letter, bit in _PERMISSION_BITS if letter in fields[1])
    name, number = fields[0], fields[-1]
    if not name:
        return _Entry(tags[0], permissions)
    if tags[1] is None:
        raise CorruptImage(f"expected an access control list, found the entry {line[:80]!r}")
    id_ = number if len(fields) == 3 else name
    if not _ID.fullmatch(id_):
        raise UnsupportedFeature(
            f"an access control list names {line[:80]!r} without a number",
            # GNU tar writes names alone, --numeric-owner or not, and with --xattrs the numbers beside them.
            hint="write the archive with --xattrs --xattrs-include='*' too, or with bsdtar: they keep the numbers",
        )
    return _Entry(tags[1], permissions, int(id_))


def _from_xattr(value: bytes) -> list[_Entry]:
    _expect_version(value, _XATTR_VERSION)
    if (len(value) - _VERSION.size) % _ENTRY.size:
        raise CorruptImage(f"expected an access control list of whole entries, found {len(value)} bytes")
    # The kernel ignores the id of an entry that names nobody.
    return [
        _Entry(tag, permissions, id_ if tag in _NAMED else _NO_ID)
        for tag, permissions, id_ in _ENTRY.iter_unpack(value[_VERSION.size :])
    ]


def _to_xattr(entries: Sequence[_Entry]) -> bytes:
    return _VERSION.pack(_XATTR_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)


def _expect_version(value: bytes, version: int) -> None:
    found = value[: _VERSION.size]
    if found != _VERSION.pack(version):
        raise CorruptImage(f"expected an access control list of version {version}, found {found.hex() or 'nothing'}")


def _checked(entries: Sequence[_Entry]) -> Sequence[_Entry]:
    """Return `entries` if they are what posix_acl_valid() of the kernel takes (fs/posix_acl.c)."""
    tags = [entry.tag for entry in entries]
    single = [tag for tag in tags if tag not in _NAMED]
    expected = [_USER_OBJ, _GROUP_OBJ, *([_MASK] if _MASK in tags else []), _OTHER]
    named = len(single) != len(tags)
    if tags != sorted(tags) or single != expected or (named and _MASK not in tags):
        raise CorruptImage(
            f"expected an access control list, found the tags {', '.join(map(hex, tags[:16])) or 'none'}"
        )
    for entry in entries:
        if entry.permissions > 7 or (entry.tag in _NAMED and entry.id >= _NO_ID):
            raise CorruptImage(f"expected an access control list, found permissions {entry.permissions}, id {entry.id}")
    return entries
