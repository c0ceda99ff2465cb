"""How valid inputs become hostile ones; all of it is decided by the generator that is passed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

#: Bytes of the longest input: no bound of larder's needs more.
LONGEST = 4 << 20

_WORDS = (
    b"/etc/passwd",
    b"../../../../etc/passwd",
    b"json:{}",
    b"\x1b]0;hostile\x07",
    b"\x1b[2J",
    "\u202e\u2028".encode(),
    b"\xff\xfe",
    b"\0",
    b"\r\n",
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 3000,
    b"-1",
    b"1e999",
    b"*" * 40,
)


class Spot(NamedTuple):
    """A number in a format: `size` bytes at `offset`."""

    offset: int
    size: int
    order: str


def number(rng: Random, size: int, near: Sequence[int] = ()) -> int:
    """Return a number of `size` bytes of the kind that ends in overflows, loops and bombs."""
    bits = 8 * size
    kind = rng.randrange(6)
    if kind == 0:
        value = rng.choice((0, 1, 2, 3, 255, 256, 511, 512, 513, 4095, 4096, 65535, 65536, -1, -2, -512))
    elif kind == 1:
        value = (1 << rng.randrange(bits)) + rng.choice((-1, 0, 1))
    elif kind == 2:
        value = rng.getrandbits(bits)
    elif kind == 3 and near:
        value = rng.choice(near) + rng.choice((-512, -1, 0, 1, 512))
    elif kind == 4:
        value = rng.randrange(64) << rng.choice((9, 10, 12, 16))
    else:
        value = rng.getrandbits(rng.randrange(1, bits + 1))
    return value % (1 << bits)


def damage(rng: Random, data: bytes, others: Sequence[bytes], spots: Sequence[Spot] = ()) -> bytes:
    """Return `data` with one to five changes: of bytes, of the numbers at `spots`, of its length, of its order."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        if spots and rng.random() < 0.7:
            _renumber(rng, changed, rng.choice(spots), len(data))
        elif changed:
            rng.choice(_CHANGES)(rng, changed, others)
    return bytes(changed[:LONGEST])


def _renumber(rng: Random, data: bytearray, spot: Spot, length: int) -> None:
    if spot.offset + spot.size > len(data):
        return
    order: Any = spot.order
    here = slice(spot.offset, spot.offset + spot.size)
    old = int.from_bytes(data[here], order)
    value = old ^ 1 << rng.randrange(8 * spot.size) if rng.random() < 0.3 else number(rng, spot.size, (old, length))
    data[here] = value.to_bytes(spot.size, order)


def _flip(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _noise(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    piece = rng.randbytes(rng.choice((1, 2, 4, 8, 64)))
    data[at : at + len(piece)] = piece


def _word(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    word = rng.choice(_WORDS)
    data[at : at + (len(word) if rng.random() < 0.5 else 0)] = word


def _aligned(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    size = rng.choice((2, 4, 8))
    at = rng.randrange(len(data)) // size * size
    _renumber(rng, data, Spot(at, size, rng.choice(("big", "little"))), len(data))


def _cut(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data)) + 1 :]


def _remove(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 4, 512, 4096, len(data) // 4))]
    data[:] = data or b"\0"


def _copy(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    size = rng.choice((8, 64, 512, 4096))
    source = rng.randrange(len(data))
    piece = data[source : source + size] * rng.choice((1, 1, 1, 20))
    at = rng.randrange(len(data))
    data[at : at + (len(piece) if rng.random() < 0.7 else 0)] = piece


def _splice(rng: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    at = rng.randrange(len(data))
    start = at if rng.random() < 0.5 else rng.randrange(max(1, len(other)))
    if rng.random() < 0.5:
        data[at:] = other[start:] or b"\0"
    else:
        piece = other[start : start + rng.choice((16, 512, 4096))]
        data[at : at + len(piece)] = piece


def _zero(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    size = min(len(data) - at, rng.choice((1, 8, 512, 4096)))
    data[at : at + size] = bytes(size)


_CHANGES: tuple[Callable[[Random, bytearray, Sequence[bytes]], None], ...] = (
    _flip,
    _noise,
    _word,
    _aligned,
    _cut,
    _remove,
    _copy,
    _splice,
    _zero,
)


def grow(rng: Random, data: bytes) -> bytes:
    """Return `data` with something in it repeated: itself, a piece, or a number over what follows it."""
    changed = bytearray(data or b"\0")
    kind = rng.randrange(4)
    if kind == 0:
        return bytes(changed + changed)
    unit = rng.choice((1, 8, 16, 256, 512, 4096))
    at = rng.randrange(len(changed)) // unit * unit
    piece = changed[at : at + unit * rng.choice((1, 1, 2, 3, 8))]
    times = rng.choice((2, 8, 64, 1000))
    if kind == 1:
        # Over what follows: entries of a table, inodes.
        stop = min(len(changed), at + len(piece) * times)
        changed[at:stop] = (piece * times)[: stop - at]
    else:
        changed[at:at] = piece * min(times, max(1, LONGEST // len(piece)))
    return bytes(changed)


def damage_text(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a text with one to five of its tokens and lines changed, or bytes of it."""
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        if rng.random() < 0.3:
            data = damage(rng, data or b"\n", others)
            continue
        tokens = re.findall(rb"\s+|\w+|.", data, re.DOTALL) or [b""]
        at = rng.randrange(len(tokens))
        kind = rng.randrange(5)
        if kind == 0:
            tokens[at] = rng.choice(_WORDS)
        elif kind == 1:
            del tokens[at : at + rng.randrange(1, 6)]
        elif kind == 2:
            tokens[at:at] = tokens[at : at + rng.randrange(1, 20)] * rng.choice((1, 2, 300))
        elif kind == 3:
            other = re.findall(rb"\s+|\w+|.", rng.choice(others), re.DOTALL) or [b""]
            tokens[at] = rng.choice(other)
        else:
            tokens[at] *= rng.choice((2, 300))
        data = b"".join(tokens)[:LONGEST]
    return data


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


#: Arrays and objects are made anew each time: what is put into a document may be changed there.
_VALUES: tuple[Callable[[], Any], ...] = (
    list,
    dict,
    lambda: [[]],
    lambda: {"": {}},
    lambda: _nested(800),
)
_SCALARS: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1 << 63,
    10**4000,
    0.5,
    float("inf"),
    float("nan"),
    "",
    "\x1b[2J\x07",
    "\n  hint: run this",
    "\ud800",
    "\0",
    "/etc/passwd",
    "../../../etc/passwd",
    "sha256:" + "../" * 20,
    "x" * 70_000,
)


def _value(rng: Random) -> Any:
    return rng.choice(_VALUES)() if rng.random() < 0.25 else rng.choice(_SCALARS)


def damage_document(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a JSON document with some of its values replaced, moved or left out; sometimes its bytes changed.

    What is no JSON document any more has its bytes changed again.
    """
    if rng.random() < 0.25:
        return damage_text(rng, data, others)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return damage_text(rng, data, others)
    for _ in range(rng.choice((1, 1, 2, 4))):
        document = _change(rng, document)
    return json.dumps(document).encode("utf-8", "surrogatepass")[:LONGEST]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container with every key or index in it; what is nested deeply is left alone."""
    found: list[tuple[Any, Any]] = []
    todo = [(value, 0)]
    while todo:
        each, depth = todo.pop()
        keys = list(each) if isinstance(each, dict) else list(range(len(each))) if isinstance(each, list) else []
        if depth < 20:
            found += [(each, key) for key in keys]
            todo += [(each[key], depth + 1) for key in keys]
    return found


def _change(rng: Random, document: Any) -> Any:
    places = _places(document)
    if not places or rng.random() < 0.03:
        return _value(rng)
    container, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container += [json.loads(json.dumps(container[key])) for _ in range(rng.choice((1, 2, 200)))]
    elif kind == 2:
        other, there = rng.choice(places)
        # A copy: a document cannot hold itself.
        container[key] = json.loads(json.dumps(other[there]))
    else:
        container[key] = _value(rng)
    return document
