"""What an upstream's checksum list says of a file; pure, no I/O, and no opinion on who wrote the list.

The style is recognised by the text itself, since names say little: ``CHECKSUM`` is clear-signed BSD lines at Fedora,
BSD lines at Rocky and GNU lines at AlmaLinux.

* GNU coreutils, ``HEX  name`` and ``HEX *name``; BSD and ``--tag``, ``SHA256 (name) = HEX``; a leading backslash says
  that the name is escaped (coreutils manual, "cksum output modes"); ``# name: N bytes`` gives a size;
* ``# BLAKE2B HASH`` and the like: the algorithm of the lines below (Gentoo), where two have digests of one length;
* the same inside a clear-signed block: then only what is inside counts;
* one digest and no name;
* JSON: any object that has a digest and a location, however deep (Fedora CoreOS streams, simplestreams, Oracle
  templates, WSL's DistributionInfo, GitLab packages), and Debian's build manifests.
"""

from __future__ import annotations

import base64
import codecs
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from recipes import jsontext
from recipes.errors import ChecksumError, printable
from recipes.model import DIGEST_LENGTHS, Digest
from recipes.names import wildcard

from .packets import CLEARTEXT_HEADER, excerpt, split_cleartext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: Characters of the longest list that is read; the longest in use (simplestreams) has some 3 MiB. JSON takes up to 25
#: times its length in memory.
MAX_LENGTH = 8 * 2**20

#: Characters of a name in messages.
_SHOWN = 100

#: Algorithms with which nothing can be verified: whoever wants to can make a second file with the same digest.
_BROKEN = frozenset({"md5", "sha1"})

#: Characters of the longest path in a list (PATH_MAX of Linux).
MAX_PATH = 4096

#: Algorithms that a download is verified with, the strongest first.
_ACCEPTED = sorted(DIGEST_LENGTHS, key=DIGEST_LENGTHS.__getitem__, reverse=True)
#: Hex digits -> the algorithm that a bare hex string of that length means.
_BY_LENGTH = {32: "md5", 40: "sha1", 56: "sha224", 96: "sha384", **{v: k for k, v in DIGEST_LENGTHS.items()}}


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list says of one file."""

    #: As many trailing segments of the listed path as were asked for: usually the base name.
    name: str
    digest: Digest
    #: Bytes of the file, where the list says so.
    size: int | None = None
    #: Digest of what is inside the file's outer compression, where the list says so.
    content: Digest | None = None
    #: Where the file is, where the list itself says so.
    url: str | None = None


class _Entry(NamedTuple):
    """One digest of one file; `algorithm` may be one that is not accepted."""

    path: tuple[str, ...]
    algorithm: str
    digits: str
    size: int | None = None
    content: Digest | None = None
    url: str | None = None


class ChecksumList:
    """A parsed list; made by `parse`."""

    def __init__(self, entries: Iterable[_Entry], nameless: Sequence[_Entry]) -> None:
        self._by_base: dict[str, list[_Entry]] = {}
        #: The same for paths of Windows. A backslash may be a part of a name elsewhere: so names go before paths.
        self._by_windows_base: dict[str, list[_Entry]] = {}
        for entry in entries:
            self._by_base.setdefault(entry.path[-1], []).append(entry)
            if any("\\" in each for each in entry.path) and (path := _of_windows(entry.path)):
                self._by_windows_base.setdefault(path[-1], []).append(entry._replace(path=path))
        self._nameless = nameless

    def names(self, name: str) -> bool:
        """Say whether the list has anything of a file called `name`; a digest without a name is of none."""
        asked = _segments(name)
        return bool(self._matches(asked, self._by_base) or self._matches(asked, self._by_windows_base))

    @property
    def is_nameless(self) -> bool:
        """Say whether there are only digests without names, as in a list that is for one file."""
        return not self._by_base

    def lookup(self, name: str, *, algorithm: str | None = None) -> Listed:
        """Return what the list says of `name`; raise ChecksumError where it says nothing, or two things.

        `name` is a base name or the last segments of a path (``release-20260705/disk.img``); it matches a listed path
        when as many trailing segments as both have are the same, never by a part of a segment. ``*`` in a segment
        stands for any characters; of several files that match, the greatest in natural order is taken: digits compare
        as numbers, everything else by code point, segment by segment, so ``…-9.10.img`` is greater than ``…-9.9.img``.
        A list without names that holds one digest answers for any name, but not for a pattern.

        `algorithm` (``sha256`` or ``sha512``) is the only one that will do; by default the strongest listed is taken.
        """
        if algorithm not in (None, *_ACCEPTED):
            raise ChecksumError(f"expected one of {', '.join(_ACCEPTED)} as the algorithm, got {algorithm!r}")
        if not self._by_base:
            return self._anonymous(name, algorithm)
        asked = _segments(name)
        found = self._matches(asked, self._by_base) or self._matches(asked, self._by_windows_base)
        if not found:
            raise ChecksumError(f"the list does not name {name}", hint=self._nearest(asked))
        best = max(map(_natural, found))
        entries = [entry for tail, group in found.items() if _natural(tail) == best for entry in group]
        return _settle(next(tail for tail in found if _natural(tail) == best), entries, algorithm)

    def _matches(self, asked: tuple[str, ...], by_base: dict[str, list[_Entry]]) -> dict[tuple[str, ...], list[_Entry]]:
        """Return the entries of `by_base` that `asked` matches, by their matched segments."""
        if not asked:
            return {}
        exact = by_base.get(asked[-1], ())
        # A star may be a part of a real name: then that file is meant.
        patterns = [wildcard(segment) for segment in asked]
        groups = [exact] if exact else [group for base, group in by_base.items() if patterns[-1].fullmatch(base)]
        found: dict[tuple[str, ...], list[_Entry]] = {}
        for entry in (entry for group in groups for entry in group):
            tail = entry.path[-len(asked) :]
            missing = asked[: len(asked) - len(tail)]
            if any("*" in segment for segment in missing):
                continue
            pairs = zip(asked[len(missing) : -1], patterns[len(missing) : -1], tail, strict=False)
            if all(segment == listed or pattern.fullmatch(listed) for segment, pattern, listed in pairs):
                found.setdefault(tail, []).append(entry)
        return found

    def _anonymous(self, name: str, algorithm: str | None) -> Listed:
        if "*" in name:
            raise ChecksumError(
                f"the list holds a digest without a name, so it cannot say which file {name} is",
                hint="declare the url without *",
            )
        if len(self._nameless) > 1:
            raise ChecksumError(f"the list holds {len(self._nameless)} digests without names; expected one")
        return _settle((name,), self._nameless, algorithm)

    def _nearest(self, asked: tuple[str, ...]) -> str:
        import difflib

        # difflib is quadratic: names that are no names, and lists of thousands, would keep it busy for minutes.
        names = islice((name for name in self._by_base if len(name) < 256), 2000)
        near = difflib.get_close_matches(asked[-1][:256] if asked else "", names, n=3, cutoff=0.5)
        if near:
            return f"it has {printable(', '.join(near))}"
        first = printable(", ".join(name[:_SHOWN] for name in islice(self._by_base, 3)))
        more = len(self._by_base) - 3
        return f"it has {first}" + (f", and {more} more, none of them similar" if more > 0 else "")


def decode(content: bytes) -> str:
    """Return the text of a list: UTF-16 if it begins with its byte order mark, as PowerShell writes it, else UTF-8.

    >>> decode("a.img".encode("utf-16"))
    'a.img'
    """
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf_16 else "utf-8", errors="replace")


def parse(text: str) -> ChecksumList:
    """Read a checksum list of any style that the module names; raise ChecksumError where it is none.

    >>> found = parse("0123456789abcdef" * 4 + "  ./noble/disk.img\\n").lookup("disk.img")
    >>> str(found.digest)[:15]
    'sha256:01234567'
    """
    if len(text) > MAX_LENGTH:
        raise ChecksumError(f"the checksum list has {len(text)} characters; expected at most {MAX_LENGTH}")
    text = text.removeprefix("\ufeff").strip()
    if not text:
        raise ChecksumError("the checksum list is empty")
    if text.startswith("<"):
        raise ChecksumError(
            "expected a checksum list, found an HTML page",
            hint="the server answers with a page where the list should be: is the url of `checksums` right?",
        )
    if CLEARTEXT_HEADER.decode() in text:
        text = split_cleartext(text.encode("utf-8", "surrogatepass")).text.decode("utf-8", "surrogatepass")
    entries = list(_from_json(text) if text.startswith(("{", "[")) else _from_lines(text))
    if not entries:
        found = excerpt(text.encode("utf-8", "replace"))
        raise ChecksumError(f"the checksum list has no checksums; it begins with {found}")
    if any(sum(map(len, entry.path)) > MAX_PATH for entry in entries):
        raise ChecksumError(f"the checksum list names a file with more than {MAX_PATH} characters")
    return ChecksumList((entry for entry in entries if entry.path), [entry for entry in entries if not entry.path])


# Choosing -----------------------------------------------------------------------------------------------------------


def _settle(name: tuple[str, ...], entries: Sequence[_Entry], algorithm: str | None) -> Listed:
    """Return the strongest digest in `entries`, all of one file; raise ChecksumError where they contradict."""
    plain = "/".join(name)
    shown = printable(plain)
    listed = {printable(entry.algorithm) for entry in entries}
    wanted = algorithm or next((one for one in _ACCEPTED if one in listed), None)
    if wanted not in listed:
        raise ChecksumError(
            f"{shown} is listed with {', '.join(sorted(listed))} only; expected {algorithm or ' or '.join(_ACCEPTED)}",
            hint=None if listed & set(_ACCEPTED) else _advice(listed),
        )
    chosen = [entry for entry in entries if entry.algorithm == wanted]
    first = chosen[0]
    for other in chosen[1:]:
        if other.digits != first.digits:
            places = [printable("/".join(each.path)) for each in (first, other)]
            raise ChecksumError(
                f"{shown} is listed twice, with different digests: {wanted}:{first.digits} ({places[0]}) "
                f"and {wanted}:{other.digits} ({places[1]})",
                hint="if these are two files, ask for more of the path, such as FOLDER/NAME",
            )
    return Listed(
        plain,
        Digest(wanted, first.digits),
        next((entry.size for entry in entries if entry.size is not None), None),
        next((entry.content for entry in entries if entry.content is not None), None),
        next((entry.url for entry in entries if entry.url is not None), None),
    )


def _advice(listed: set[str]) -> str:
    if listed <= _BROKEN:
        return "that is too weak to verify a download; pin it with `digest`"
    return f"larder verifies with {' or '.join(_ACCEPTED)}; pin it with `digest`"


def _segments(path: str) -> tuple[str, ...]:
    return tuple(segment for segment in path.split("/") if segment not in ("", "."))


def _of_windows(path: tuple[str, ...]) -> tuple[str, ...]:
    return _segments("/".join(path).replace("\\", "/"))


def _natural(path: tuple[str, ...]) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    return tuple(
        tuple(
            (0, len(part.lstrip("0")), part.lstrip("0")) if part[0] in "0123456789" else (1, 0, part)
            for part in re.findall(r"[0-9]+|[^0-9]+", segment)
        )
        for segment in path
    )


# Lines --------------------------------------------------------------------------------------------------------------

_GNU = re.compile(r"(\\?)([0-9A-Fa-f]{32,})(?: [ *]|[ \t]+)(\S.*)")
_BSD = re.compile(r"(\\?)(?:([A-Za-z][A-Za-z0-9/-]*) ?)?\((.*)\) ?= ?([0-9A-Fa-f]+)")
_BARE = re.compile(r"[0-9A-Fa-f]{32,}")
_HEADING = re.compile(r"# *([A-Za-z][A-Za-z0-9-]*) +HASH", re.IGNORECASE)
#: What coreutils and OpenSSL write for what they read from a pipe.
_STDIN = frozenset({"-", "stdin"})
_ESCAPES = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}


def _from_lines(text: str) -> Iterator[_Entry]:
    sizes: dict[tuple[str, ...], int] = {}
    entries: list[_Entry] = []
    heading: str | None = None
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip()
        if match := _HEADING.fullmatch(line):
            heading = match[1]
        elif line.startswith("#"):
            name, _, count = line[1:].rpartition(":")
            digits, _, unit = count.strip().partition(" ")
            if unit == "bytes" and re.fullmatch("[0-9]{1,18}", digits):
                sizes[_segments(name.strip())] = int(digits)
        elif match := _GNU.fullmatch(line):
            escaped, digits, name = match.groups()
            entries.append(_line(_name(name, escaped), heading, digits, number))
        elif match := _BSD.fullmatch(line):
            escaped, algorithm, name, digits = match.groups()
            entries.append(_line(_name(name, escaped), algorithm, digits, number))
        elif _BARE.fullmatch(line):
            entries.append(_line("", None, line, number))
    for entry in entries:
        yield entry._replace(size=sizes.get(entry.path))


def _line(name: str, algorithm: str | None, digits: str, number: int) -> _Entry:
    if algorithm is None:
        algorithm = _BY_LENGTH.get(len(digits))
        if algorithm is None:
            raise ChecksumError(f"line {number} of the checksum list: {len(digits)} hex digits are no known digest")
    # OpenSSL 3 writes SHA2-256.
    algorithm = algorithm.lower().replace("sha2-", "sha")
    expected = DIGEST_LENGTHS.get(algorithm, len(digits))
    if len(digits) != expected:
        raise ChecksumError(
            f"line {number} of the checksum list: {algorithm} takes {expected} hex digits, got {len(digits)}",
            hint="the download was cut short, or upstream's list is broken; fetch it again",
        )
    return _Entry(_segments(name), algorithm, digits.lower())


def _name(name: str, escaped: str) -> str:
    """Return the name that a line has, nothing for a pipe."""
    if name in _STDIN:
        return ""
    if not escaped:
        return name
    return re.sub(r"\\[\\nr]", lambda match: _ESCAPES[match[0]], name)


# JSON ---------------------------------------------------------------------------------------------------------------

#: Where an object says which file it is about; the first that is there counts.
_LOCATIONS = ("file_name", "location", "url", "path", "image", "filename")
_DIGESTS = {
    f"{prefix}{algorithm}{suffix}": algorithm
    for algorithm in (*_ACCEPTED, "sha1", "md5")
    for prefix, suffix in (("", ""), ("", "sum"), ("file_", ""))
}


def _from_json(text: str) -> Iterator[_Entry]:
    try:
        document = jsontext.loads(text)
    except ValueError as error:
        raise ChecksumError(
            f"the checksum list looks like JSON and is not: {error}", hint="the download was cut short, or is not JSON"
        ) from error
    #: What is left of the arrays and objects around a value, each with the folder that an object around it gives.
    stack: list[tuple[Iterator[Any], str]] = [(iter([document]), "")]
    while stack:
        values, folder = stack[-1]
        for value in values:
            if isinstance(value, list):
                stack.append((iter(value), folder))
                break
            if isinstance(value, dict):
                fields = {key.lower(): item for key, item in value.items()}
                # Oracle's templates have it beside the objects that name the files.
                if isinstance(fields.get("base_url"), str):
                    folder = fields["base_url"]
                yield from _from_object(fields, folder)
                stack.append((iter(value.values()), folder))
                break
        else:
            stack.pop()


def _from_object(fields: dict[str, Any], folder: str) -> Iterator[_Entry]:
    match fields:
        # cloud.debian.org manifests keep digest and path in two siblings (kind: Upload).
        case {"metadata": {"annotations": {"cloud.debian.org/digest": str(digest)}}, "data": {"ref": str(ref)}}:
            algorithm, _, encoded = digest.partition(":")
            yield _Entry(_segments(ref), algorithm, _from_base64(encoded, algorithm))
            return
    where = next((fields[key] for key in _LOCATIONS if isinstance(fields.get(key), str)), "")
    try:
        parts = urlsplit(where)
    except ValueError:
        return
    url = where if parts.scheme in ("http", "https") else None
    path = _segments(unquote(parts.path) if url else where)
    if not path:
        return
    if not url:
        path = _segments(folder) + path
    size = fields.get("size")
    for key, algorithm in _DIGESTS.items():
        if (digits := _hex(fields, key, algorithm)) is not None:
            content = _hex(fields, f"uncompressed-{algorithm}", algorithm)
            yield _Entry(
                path,
                algorithm,
                digits,
                size if type(size) is int and 0 <= size < 1 << 63 else None,
                Digest(algorithm, content) if content and algorithm in DIGEST_LENGTHS else None,
                url,
            )


def _hex(fields: dict[str, Any], key: str, algorithm: str) -> str | None:
    """Return the digest that `key` holds, or None where it holds none (GitLab writes null for what it lacks)."""
    value = fields.get(key)
    if not isinstance(value, str) or not value:
        return None
    digits = value.strip().lower().removeprefix("0x")
    if len(digits) == DIGEST_LENGTHS.get(algorithm, len(digits)) and _BARE.fullmatch(digits):
        return digits
    raise ChecksumError(f"the checksum list's {key} is not a {algorithm} in hex: {value[:160]!r}")


def _from_base64(encoded: str, algorithm: str) -> str:
    """Undo base64 whose padding was left out."""
    try:
        digits = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).hex()
    except ValueError:
        digits = ""
    if digits and len(digits) == DIGEST_LENGTHS.get(algorithm, len(digits)):
        return digits
    raise ChecksumError(f"the checksum list's digest is not a {algorithm} in base64: {encoded[:160]!r}")
