from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.formats.io import text

PAGE = "<!DOCTYPE html>\n<html><head><title>Anmeldung für Gäste</title></head></html>\n"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"0" * 64 + b"  noble.img\n", "text"),
        ("Prüfsumme\n".encode("latin-1"), "text"),
        ("チェックサム\n".encode("shift-jis"), "text"),
        ("Prüfsumme\r\n".encode("utf-16"), "text"),
        ("チェックサム\r\n".encode("utf-16"), "text"),
        ("checksum\r\n".encode("utf-16-le"), "text"),
        ("checksum\r\n".encode("utf-16-be"), "text"),
        # Cut in the middle of a character.
        ("checksum\r\n".encode("utf-16")[:-1], "text"),
        (PAGE.encode(), "html"),
        (PAGE.encode("utf-8-sig"), "html"),
        (PAGE.encode("utf-16"), "html"),
        (b"\r\n <HTML>\n", "html"),
        (b'<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml">', "html"),
        (b'<?xml version="1.0"?>\n<metalink>', "xml"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "xml"),
        (b'{"errors": []}', "json"),
        (b"[]\n", "json"),
        (b"[section]\n", "text"),
        (b"-----BEGIN PGP SIGNATURE-----\n", "openpgp"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"#!/bin/sh\n", "script"),
    ],
)
def test_text(content: bytes, name: str) -> None:
    assert text.detect(content) == name


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", bytes(1000), b"text\0", b"text\x01", b"\xff\xfea\0\0\0", zlib.compress(bytes(10_000))],
)
def test_no_text(content: bytes) -> None:
    assert text.detect(content) is None


def test_data_that_begins_with_text() -> None:
    assert text.detect(b"text", b"text") == "text"
    assert text.detect(b"text", b"\0") is None


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1), st.sampled_from(["utf-8", "utf-16"]))
def test_whatever_is_written(written: str, encoding: str) -> None:
    assert text.detect(written.encode(encoding)) is not None
