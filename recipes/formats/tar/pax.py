"""The records of extended tar headers (POSIX.1-2017, pax, "pax Extended Header"), with the vendors' that matter.

Values are bytes, whatever ``hdrcharset`` says: what people have in their file systems is not always UTF-8.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats.tree import posix_acl
from recipes.formats.tree.tree import show

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Bytes of an extended attribute's name and of its value (linux/limits.h: XATTR_NAME_MAX, XATTR_SIZE_MAX).
XATTR_NAME_MAX = 255
XATTR_SIZE_MAX = 65536

#: A sparse file's map, in the way of GNU sparse 0.1; the repeated records of 0.0 are gathered to it.
SPARSE_MAP = b"GNU.sparse.map"
_SPARSE_PAIR = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")

_XATTR = b"SCHILY.xattr."
_LIBARCHIVE_XATTR = b"LIBARCHIVE.xattr."
_ACLS = {b"SCHILY.acl.access": posix_acl.ACCESS, b"SCHILY.acl.default": posix_acl.DEFAULT}
#: What Linux stores. Other systems' attributes (``com.apple.…``) it refuses, and archivers leave them out.
_NAMESPACES = (b"user.", b"trusted.", b"security.")

_LENGTH = re.compile(rb"([0-9]{1,7}) ")
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_NS = 1_000_000_000


def parse(data: bytes) -> dict[bytes, bytes]:
    """Return the records of an extended header, the last of a kind where one is repeated. Errors: `CorruptImage`."""
    records: dict[bytes, bytes] = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        found = _LENGTH.match(data, at)
        stop = at + int(found[1]) if found else 0
        if not found or stop <= found.end() or stop > len(data) or data[stop - 1 : stop] != b"\n":
            raise CorruptImage(f"byte {at} of an extended header: expected a record, found {show(data[at : at + 40])}")
        key, equals, value = data[found.end() : stop - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise CorruptImage(f"byte {at} of an extended header: expected a key, found {show(key[:40])}")
        if key in _SPARSE_PAIR:
            if key != _SPARSE_PAIR[len(sparse) % 2]:
                raise CorruptImage(f"byte {at} of an extended header: {show(key)} is out of order")
            sparse.append(value)
        else:
            records[key] = value
        at = stop
    if sparse:
        records[SPARSE_MAP] = b",".join(sparse)
    return records


def record(key: bytes, value: bytes) -> bytes:
    """Return one record.

    >>> record(b"path", b"a")
    b'9 path=a\\n'
    """
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    # The length counts its own digits, of which there may be one more then.
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def number(value: bytes, what: str) -> int:
    """Return the decimal number `value`; `CorruptImage` where it is none, or has more than 20 digits."""
    if not _NUMBER.fullmatch(value):
        raise CorruptImage(f"expected the {what} to be a number, found {show(value[:40])}")
    return int(value)


def time(value: bytes) -> int:
    """Return a time in nanoseconds, finer digits cut off; `CorruptImage` where `value` is none."""
    found = _TIME.fullmatch(value)
    if not found:
        raise CorruptImage(f"expected a time, found {show(value[:40])}")
    ns = int(found[2]) * _NS + int((found[3] or b"")[:9].ljust(9, b"0"))
    return -ns if found[1] else ns


def format_time(ns: int) -> bytes:
    """Return `ns` as `time` reads it, in its shortest form.

    >>> format_time(1_500_000_000), format_time(-1)
    (b'1.5', b'-0.000000001')
    """
    seconds, fraction = divmod(abs(ns), _NS)
    text = b"%s%d" % (b"-" if ns < 0 else b"", seconds)
    return text + (b".%09d" % fraction).rstrip(b"0") if fraction else text


def xattrs(records: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the extended attributes that `records` hold, as a `Node` has them.

    The same attribute may be there in several forms: the kernel's own (star's ``SCHILY.xattr``) goes before
    libarchive's, and before access control lists in words. Attributes that Linux does not know are left out.

    Errors: `CorruptImage`; `LimitExceeded` for a name or value longer than Linux has; `UnsupportedFeature` for a list
    that names users without their numbers.
    """
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(_XATTR):
            # GNU tar encodes what would end the key, and the sign that it does it with; nothing else.
            name = key[len(_XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%")
            _put(found, name, value)
    for key, value in records.items():
        if key.startswith(_LIBARCHIVE_XATTR):
            name = unquote_to_bytes(key[len(_LIBARCHIVE_XATTR) :])
            if name not in found:
                _put(found, name, _unbase64(value))
    for record_key, name in _ACLS.items():
        words = records.get(record_key)
        if words and name not in found:
            found[name] = posix_acl.from_text(words.decode("utf-8", "replace"))
    return found


def xattr_records(xattrs: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the records for extended attributes, in the order of their names.

    Access control lists are there in words too: GNU tar and bsdtar set them from these alone, docker and podman from
    the kernel's form alone. Errors: as `posix_acl.check`.
    """
    records = [(key, posix_acl.to_text(xattrs[name]).encode("ascii")) for key, name in _ACLS.items() if name in xattrs]
    for name, value in sorted(xattrs.items()):
        records.append((_XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D"), value))
    return records


def _put(found: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    if len(name) > XATTR_NAME_MAX or len(value) > XATTR_SIZE_MAX:
        raise LimitExceeded(
            f"the extended attribute {show(name)} has {len(name)} bytes of name and {len(value)} of value, and Linux"
            f" allows {XATTR_NAME_MAX} and {XATTR_SIZE_MAX}"
        )
    if b"\0" in name:
        raise CorruptImage(f"the extended attribute {show(name)}: a name cannot hold NUL")
    if name in (posix_acl.ACCESS, posix_acl.DEFAULT):
        posix_acl.check(value)
    elif not name.startswith(_NAMESPACES):
        return
    found[name] = value


def _unbase64(value: bytes) -> bytes:
    try:
        # libarchive writes no padding.
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise CorruptImage(f"expected an extended attribute in base64, found {show(value[:40])}") from error
