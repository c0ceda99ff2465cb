from __future__ import annotations

import pytest

from recipes.model import BlockHash, Digest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected sha256:HEX"),
        ("sha256", "expected sha256:HEX"),
        ("md5:00", "expected sha256:HEX"),
        ("sha256:" + "0" * 63, "takes 64 hexadecimal digits, got 63"),
        ("sha512:" + "0" * 64, "takes 128 hexadecimal digits, got 64"),
        ("sha256:" + "g" * 64, "hexadecimal digits only"),
    ],
)
def test_what_is_no_digest(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Digest.parse(text)


def test_a_digest_is_its_text_in_lower_case() -> None:
    text = "sha256:" + "AB" * 32
    assert str(Digest.parse(text)) == text.lower()
    digest = Digest.parse("sha512:" + "0" * 128)
    hasher = digest.hasher()
    assert hasher.name == "sha512"


def test_a_blkhash_names_what_determines_it() -> None:
    assert str(BlockHash("blake3", 65536, "0.10.1", "ab")) == "blake3:ab (blocks of 65536, 0.10.1)"


def test_a_digest_without_its_algorithm_is_told_which() -> None:
    with pytest.raises(ValueError, match=f"write sha512:{'0' * 128}"):
        Digest.parse("0" * 128)
    with pytest.raises(ValueError, match=r"expected sha256:HEX or sha512:HEX, got '00'"):
        Digest.parse("00")
