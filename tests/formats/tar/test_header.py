from __future__ import annotations

import tarfile

import pytest

from recipes.errors import CorruptImage
from recipes.formats.tar.header import CHECKSUM, checksum, padding, parse_number, signed_checksum


@pytest.mark.parametrize(
    ("field", "number"),
    [
        (b"0000644\0", 0o644),
        (b"     17 ", 0o17),
        (b"\0" * 8, 0),
        (b"\x80" + (1 << 40).to_bytes(11, "big"), 1 << 40),
        (b"\xff" * 12, -1),
    ],
)
def test_numbers(field: bytes, number: int) -> None:
    assert parse_number(field) == number


@pytest.mark.parametrize("field", [b"0000849\0", b"abc\0"])
def test_what_is_no_number(field: bytes) -> None:
    with pytest.raises(CorruptImage):
        parse_number(field)


def test_checksums_are_those_of_tarfile() -> None:
    info = tarfile.TarInfo("naïve")
    info.size = 77
    block = info.tobuf(tarfile.GNU_FORMAT)[-512:]
    assert checksum(block) == parse_number(block[CHECKSUM])
    unsigned, signed = tarfile.calc_chksums(block)  # type: ignore[attr-defined]
    assert (checksum(block), signed_checksum(block)) == (unsigned, signed)


def test_padding() -> None:
    assert [padding(size) for size in (0, 1, 511, 512, 513)] == [0, 511, 1, 0, 511]
