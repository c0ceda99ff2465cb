"""Tar archives made by hand, byte by byte: what no archiver would write."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

END = bytes(1024)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)


def header(
    name: bytes = b"file",
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: bytes = b"",
    magic: bytes = b"ustar\x0000",
    device: tuple[int | bytes, int | bytes] = (0, 0),
    prefix: bytes = b"",
    signed: bool = False,
) -> bytes:
    """Return one header; numbers may be the field's bytes themselves."""

    def field(number: int | bytes, width: int) -> bytes:
        return number if isinstance(number, bytes) else octal(number, width)

    block = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x",
            name,
            field(mode, 8),
            field(uid, 8),
            field(gid, 8),
            field(size, 12),
            field(mtime, 12),
            b" " * 8,
            kind,
            link,
            magic,
            b"user",
            b"group",
            field(device[0], 8),
            field(device[1], 8),
            prefix,
        )
    )
    return summed(block, signed=signed)


def summed(block: bytearray, *, signed: bool = False) -> bytes:
    """Return `block` with the checksum that it should have."""
    block[148:156] = b" " * 8
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % total
    return bytes(block)


def file(data: bytes, name: bytes = b"file") -> bytes:
    """Return a member with its data."""
    return header(name, size=len(data)) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    """Return a PAX record; its length counts its own digits."""
    rest = len(key) + len(value) + 3
    return next(
        b"%d %s=%s\n" % (length, key, value) for length in range(rest, rest + 9) if rest + len(str(length)) == length
    )


def extended(records: Iterable[tuple[bytes, bytes]] | bytes, kind: bytes = b"x") -> bytes:
    """Return an extended header of `records`, or with the data that is given."""
    data = records if isinstance(records, bytes) else b"".join(record(*each) for each in records)
    return header(b"PaxHeaders/x", kind, size=len(data)) + padded(data)


def long(name: bytes, kind: bytes = b"L") -> bytes:
    """Return GNU's header for a long name (``L``) or link (``K``)."""
    return header(b"././@LongLink", kind, size=len(name) + 1) + padded(name + b"\0")


def old_sparse(
    real_size: int, pairs: list[tuple[int, int]], data: bytes, *, stored: int | None = None, more: bool = False
) -> bytes:
    """Return a member of GNU's old sparse type, with blocks of more pairs where four are not enough."""
    block = bytearray(
        header(b"file", b"S", size=len(data) if stored is None else stored, magic=b"ustar  \0", prefix=b"")
    )

    def put(into: bytearray, at: int, pair: tuple[int, int]) -> None:
        into[at : at + 24] = octal(pair[0], 12) + octal(pair[1], 12)

    for index, pair in enumerate(pairs[:4]):
        put(block, 386 + 24 * index, pair)
    rest = pairs[4:]
    block[482] = bool(rest) or more
    block[483:495] = octal(real_size, 12)
    result = [summed(block)]
    while rest:
        extension = bytearray(512)
        for index, pair in enumerate(rest[:21]):
            put(extension, 24 * index, pair)
        rest = rest[21:]
        extension[504] = bool(rest)
        result.append(bytes(extension))
    return b"".join(result) + padded(data)


def sparse_1_0(real_size: bytes, index: bytes, data: bytes, *, stored: int | None = None) -> bytes:
    """Return a member of GNU's sparse version 1.0, with the text of its map."""
    body = padded(index) + data
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"file"),
        (b"GNU.sparse.realsize", real_size),
    ]
    size = len(body) if stored is None else stored
    return extended(records) + header(b"GNUSparseFile.1/file", size=size) + padded(body)


def sparse_0_1(real_size: bytes, index: bytes, data: bytes) -> bytes:
    """Return a member of GNU's sparse version 0.1."""
    return extended([(b"GNU.sparse.size", real_size), (b"GNU.sparse.map", index)]) + file(data)
