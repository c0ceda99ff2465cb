"""Text, told by its bytes alone: an error page, a list, a script; whatever it is, it is no disk and no archive."""

from __future__ import annotations

import codecs
import re

#: Bytes that no text has in any encoding but UTF-16 and UTF-32: control characters, without those that file(1) takes
#: for text as well (bell, backspace, tab, newline, form feed, return, escape).
_CONTROLS = bytes(set(range(0x20)) - {7, 8, 9, 10, 12, 13, 27}) + b"\x7f"

#: The beginning of a page, which servers send with status 200 in place of a file.
HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)

#: In the order in which they are tried.
_KINDS = (
    ("html", HTML),
    ("xml", re.compile(rb"(?:\xef\xbb\xbf)?\s*<[?!a-zA-Z]")),
    ("json", re.compile(rb'(?:\xef\xbb\xbf)?\s*[{\[]\s*["{\[}\]]')),
    ("openpgp", re.compile(rb"-----BEGIN PGP ")),
    ("git-lfs", re.compile(rb"version https://git-lfs")),
    ("script", re.compile(rb"#!")),
)


def detect(head: bytes, tail: bytes = b"") -> str | None:
    """Name what a file that begins with `head` is, if it is text; None where it is none, and for nothing at all.

    `tail` is its end, as far as that is at hand: data may begin with some text.

    Text in any encoding of one or several bytes has no control characters, and a kilobyte of anything else has some:
    compressed data once in 10^47 times, disks always. Text in UTF-16 has them as half of its characters.
    """
    plain = (head if _is_plain(tail) else b"") if _is_plain(head) else _narrowed(head)
    if not plain:
        return None
    return next((name for name, begin in _KINDS if begin.match(plain)), "text")


def _is_plain(data: bytes) -> bool:
    return len(data.translate(None, _CONTROLS)) == len(data)


def _narrowed(head: bytes) -> bytes:
    """Return text in UTF-16 as UTF-8; nothing for what is none."""
    # Without a mark of its order, only what is ASCII is certain.
    order = next((name for name, zeros in (("le", head[1::2]), ("be", head[::2])) if zeros and not any(zeros)), "")
    if not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not order:
        return b""
    try:
        # Its end may be in the middle of a character.
        text = codecs.getincrementaldecoder(f"utf-16{order and '-'}{order}")().decode(head)
    except UnicodeDecodeError:
        return b""
    narrow = text.lstrip("\ufeff").encode("utf-8", "replace")
    return narrow if _is_plain(narrow) else b""
