from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import SignatureError
from recipes.sources.packets import (
    PUBLIC_KEY,
    PUBLIC_SUBKEY,
    SIGNATURE,
    USER_ID,
    dearmour,
    excerpt,
    read_keyring,
    split_cleartext,
    split_packets,
)

SIGNED = """before
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

first \t
- -----dashed
- - also
-----BEGIN PGP SIGNATURE-----

iQEz
-----END PGP SIGNATURE-----
after
"""


class TestCleartext:
    def test_its_parts(self) -> None:
        found = split_cleartext(SIGNED.encode())
        assert found.text == b"first\n-----dashed\n- also"
        assert found.signature == b"-----BEGIN PGP SIGNATURE-----\n\niQEz\n-----END PGP SIGNATURE-----"
        assert found.outside == b"before\nafter"

    def test_ends_of_lines_do_not_count(self) -> None:
        assert split_cleartext(SIGNED.replace("\n", "\r\n").encode()) == split_cleartext(SIGNED.encode())

    def test_nothing_around_it(self) -> None:
        alone = SIGNED.removeprefix("before\n").removesuffix("after\n")
        assert split_cleartext(alone.encode()).outside == b""

    def test_the_first_of_two(self) -> None:
        found = split_cleartext((SIGNED + SIGNED.replace("first", "second")).encode())
        assert found.text.startswith(b"first")
        assert b"second" in found.outside

    @pytest.mark.parametrize(
        "lost",
        ["-----BEGIN PGP SIGNED MESSAGE-----\n", "-----BEGIN PGP SIGNATURE-----\n", "-----END PGP SIGNATURE-----\n"],
    )
    def test_what_is_not_complete(self, lost: str) -> None:
        with pytest.raises(SignatureError, match="not complete"):
            split_cleartext(SIGNED.replace(lost, "").encode())

    @pytest.mark.parametrize("header", ["Comment: x", "0123  disk.img", "hash: SHA256"])
    def test_headers_that_look_like_text(self, header: str) -> None:
        with pytest.raises(SignatureError, match="a header other than Hash"):
            split_cleartext(SIGNED.replace("Hash: SHA256", header).encode())


def armour(data: bytes, *headers: str) -> bytes:
    lines = base64.b64encode(data).decode()
    return "\n".join(
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----", *headers, "", lines, "=abcd", "-----END PGP PUBLIC KEY BLOCK-----", "")
    ).encode()


class TestArmour:
    @given(st.binary())
    def test_is_undone(self, data: bytes) -> None:
        assert dearmour(armour(data)) == data
        assert dearmour(armour(data, "Version: 1", "Comment: two")) == data

    def test_of_several_blocks(self) -> None:
        assert dearmour(b"text\n" + armour(b"one") + b"more text\n" + armour(b"two")) == b"onetwo"

    def test_binary_is_left_alone(self) -> None:
        assert dearmour(b"\x99" + b"-----BEGIN PGP ") == b"\x99" + b"-----BEGIN PGP "

    def test_what_is_none(self) -> None:
        assert dearmour(b"") == dearmour(b"hello") == b""
        with pytest.raises(ValueError, match=r"(?i)base64|character|padding"):
            dearmour(armour(b"x").replace(b"eA==", b"eA*="))


def packet(kind: int, body: bytes) -> bytes:
    """Return a packet in the new format."""
    if len(body) < 192:
        length = bytes([len(body)])
    elif len(body) < 8384:
        length = bytes([(len(body) - 192 >> 8) + 192, len(body) - 192 & 0xFF])
    else:
        length = b"\xff" + len(body).to_bytes(4)
    return bytes([0xC0 | kind]) + length + body


def old_packet(kind: int, body: bytes) -> bytes:
    """Return a packet in the old format, with the shortest length."""
    size = 1 if len(body) < 256 else 2 if len(body) < 65536 else 4
    return bytes([0x80 | kind << 2 | (1, 2, 4).index(size)]) + len(body).to_bytes(size) + body


class TestPackets:
    @pytest.mark.parametrize("size", [0, 1, 191, 192, 8383, 8384, 70_000])
    @pytest.mark.parametrize("pack", [packet, old_packet])
    def test_of_every_length(self, size: int, pack: object) -> None:
        assert callable(pack)
        raw = pack(SIGNATURE, b"x" * size)
        found = list(split_packets(raw + packet(USER_ID, b"me")))
        assert [(each.kind, len(each.body)) for each in found] == [(SIGNATURE, size), (USER_ID, 2)]
        assert found[0].raw == raw

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"hello", "not an OpenPGP packet"),
            (packet(2, b"x") + b"\0", "not an OpenPGP packet"),
            (b"\xc2\xe0x", "partial length"),
            (b"\x8bx", "indeterminate length"),
            (packet(2, b"abc")[:-1], "ends too early"),
            (b"\xc2\xff\xff\xff\xff\xff", "ends too early"),
        ],
    )
    def test_what_are_none(self, data: bytes, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            list(split_packets(data))

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        try:
            found = list(split_packets(data))
        except ValueError:
            return
        assert b"".join(each.raw for each in found) == data


def key(number: int, version: int = 4) -> bytes:
    return bytes([version]) + (1_700_000_000).to_bytes(4) + bytes([number]) * 20


class TestKeyrings:
    def test_keys_and_what_belongs_to_them(self) -> None:
        raw = (
            packet(PUBLIC_KEY, key(1))
            + packet(USER_ID, "Größe <g@example.org>".encode())
            + packet(SIGNATURE, b"over the user")
            + packet(PUBLIC_SUBKEY, key(2))
            + packet(SIGNATURE, b"over the subkey")
        )
        for data in (raw, armour(raw)):
            (found,) = read_keyring(data)
            assert found.user_ids == ["Größe <g@example.org>"]
            assert [len(each.signatures) for each in (found.primary, *found.subkeys)] == [1, 1]
            assert found.primary.created == datetime.fromtimestamp(1_700_000_000, UTC)
            assert bytes(found) == raw
            assert str(found) == f"{found.primary.fingerprint} (Größe <g@example.org>)"

    def test_fingerprints(self) -> None:
        body = key(1)
        (four,) = read_keyring(packet(PUBLIC_KEY, body))
        assert four.primary.fingerprint == hashlib.sha1(b"\x99\x00\x19" + body).hexdigest().upper()
        (six,) = read_keyring(packet(PUBLIC_KEY, key(1, 6)))
        assert len(six.primary.fingerprint) == 64
        assert str(six) == six.primary.fingerprint

    def test_found_by_fingerprint_or_key_id(self) -> None:
        (found,) = read_keyring(packet(PUBLIC_KEY, key(1)) + packet(PUBLIC_SUBKEY, key(2)))
        for each in (found.primary, *found.subkeys):
            assert found.find(each.fingerprint) is each
            assert found.find(each.fingerprint[-16:]) is each
        assert found.find("0" * 16) is None

    def test_the_last_copy_counts(self) -> None:
        old, new = (
            packet(PUBLIC_KEY, key(1)) + packet(USER_ID, b"old"),
            packet(PUBLIC_KEY, key(1)) + packet(USER_ID, b"new"),
        )
        assert [each.user_ids for each in read_keyring(old + packet(PUBLIC_KEY, key(2)) + new)] == [["new"], []]

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"", "no keys: expected OpenPGP public keys, found nothing"),
            (b"<html>\nmore", "found '<html>'"),
            (packet(USER_ID, b"me"), "expected a public key first"),
            (packet(PUBLIC_KEY, key(1, 3)), "a key of version 3"),
            (packet(PUBLIC_KEY, b"\4"), "a key of version 0"),
            (packet(PUBLIC_KEY, key(1))[:-1], "ends too early"),
        ],
    )
    def test_what_is_none(self, data: bytes, match: str) -> None:
        with pytest.raises(SignatureError, match=match) as caught:
            read_keyring(data)
        assert "gpg --armor --export" in (caught.value.hint or "")


def test_an_excerpt_is_one_line_quoted() -> None:
    assert excerpt(b"  \n hello \nworld") == "'hello '"
    assert excerpt(b"x" * 100) == repr("x" * 60)
    assert excerpt(b"\xff\x1b[31m") == "'\ufffd\\x1b[31m'"
    assert excerpt(b" \n ") == "nothing"
