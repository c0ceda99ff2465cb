from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import CorruptImage, LimitExceeded, UnsupportedFeature
from recipes.formats.tar.pax import (
    SPARSE_MAP,
    XATTR_NAME_MAX,
    XATTR_SIZE_MAX,
    format_time,
    number,
    parse,
    record,
    time,
    xattr_records,
    xattrs,
)
from tests.kit.ext4_images import ACL

KEYS = st.binary(min_size=1, max_size=30).filter(
    lambda key: b"=" not in key and b"\0" not in key and not key.startswith(b"GNU")
)


@given(st.dictionaries(KEYS, st.binary(max_size=200), max_size=5))
def test_what_is_written_is_read(records: dict[bytes, bytes]) -> None:
    assert parse(b"".join(record(key, value) for key, value in records.items())) == records


@pytest.mark.parametrize("size", [*range(85, 100), *range(980, 1000)])
def test_a_length_counts_its_own_digits(size: int) -> None:
    text = record(b"k", b"v" * size)
    assert int(text.split(b" ")[0]) == len(text)


def test_the_last_of_two_counts() -> None:
    assert parse(record(b"path", b"a") + record(b"path", b"b")) == {b"path": b"b"}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"x", "byte 0 of an extended header: expected a record"),
        (b"11 path=a\n", "byte 0"),
        (b"8 path=a\n", "byte 0"),
        (b"9 path=ab", "byte 0"),
        (b"9 path=a\n9 path=a", "byte 9"),
        (b"0 path=a\n", "byte 0"),
        (b"2 \n", "byte 0"),
        (b"-9 path=a\n", "byte 0"),
        (b"00000009 path=a\n", "byte 0"),
        (b"7 path\n\n", "expected a key|expected a record"),
        (b"5 =a\n", "expected a key"),
        (b"8 a\0b=c\n", "expected a key"),
    ],
)
def test_what_is_none(data: bytes, match: str) -> None:
    with pytest.raises(CorruptImage, match=match):
        parse(data)


class TestSparsePairs:
    OFFSET, COUNT = b"GNU.sparse.offset", b"GNU.sparse.numbytes"

    def test_are_gathered(self) -> None:
        data = b"".join(record(key, value) for key, value in ((self.OFFSET, b"1"), (self.COUNT, b"2")) * 2)
        assert parse(data) == {SPARSE_MAP: b"1,2,1,2"}

    @pytest.mark.parametrize("keys", [(COUNT,), (OFFSET, OFFSET), (OFFSET, COUNT, COUNT)])
    def test_out_of_order(self, keys: tuple[bytes, ...]) -> None:
        with pytest.raises(CorruptImage, match="is out of order"):
            parse(b"".join(record(key, b"1") for key in keys))


class TestNumbers:
    def test_decimal(self) -> None:
        assert number(b"0", "size") == 0
        assert number(b"9" * 20, "size") == 10**20 - 1

    @pytest.mark.parametrize("value", [b"", b"-1", b"+1", b" 1", b"1 ", b"0x1", b"9" * 21, "٣".encode(), b"1.0"])
    def test_what_is_none(self, value: bytes) -> None:
        with pytest.raises(CorruptImage, match="expected the size to be a number"):
            number(value, "size")

    @given(st.integers(-(10**28), 10**28))
    def test_times_come_back(self, ns: int) -> None:
        assert time(format_time(ns)) == ns

    @pytest.mark.parametrize(
        ("text", "ns"), [(b"1.", 10**9), (b"1.0000000019", 10**9 + 1), (b"-0.5", -500_000_000), (b"007", 7 * 10**9)]
    )
    def test_other_forms_of_a_time(self, text: bytes, ns: int) -> None:
        assert time(text) == ns

    @pytest.mark.parametrize("text", [b"", b".5", b"1,5", b"1e9", b"--1", b"9" * 21])
    def test_what_is_no_time(self, text: bytes) -> None:
        with pytest.raises(CorruptImage, match="expected a time"):
            time(text)


NAMES = st.builds(
    bytes.__add__,
    st.sampled_from([b"user.", b"trusted.", b"security."]),
    st.binary(min_size=1, max_size=50).filter(lambda name: 0 not in name),
)


class TestAttributes:
    @given(st.dictionaries(NAMES, st.binary(max_size=50), max_size=4))
    def test_what_is_written_is_read(self, found: dict[bytes, bytes]) -> None:
        data = b"".join(record(key, value) for key, value in xattr_records(found))
        assert xattrs(parse(data)) == found

    def test_lists_are_there_in_words_too(self) -> None:
        records = dict(xattr_records({b"system.posix_acl_access": ACL}))
        assert records[b"SCHILY.acl.access"].startswith(b"user::rwx")
        assert xattrs(records) == {b"system.posix_acl_access": ACL}
        del records[b"SCHILY.xattr.system.posix_acl_access"]
        assert xattrs(records) == {b"system.posix_acl_access": ACL}

    def test_the_kernels_form_goes_first(self) -> None:
        packed = base64.b64encode(b"theirs").rstrip(b"=")
        records = {
            b"LIBARCHIVE.xattr.user.a": packed,
            b"LIBARCHIVE.xattr.user.b%3d": packed,
            b"SCHILY.xattr.user.a": b"ours",
        }
        assert xattrs(records) == {b"user.a": b"ours", b"user.b=": b"theirs"}

    @pytest.mark.parametrize("name", [b"com.apple.quarantine", b"system.nfs4_acl", b"btrfs.compression", b"x"])
    def test_what_linux_does_not_know_is_left_out(self, name: bytes) -> None:
        assert xattrs({b"SCHILY.xattr." + name: b"v"}) == {}

    @pytest.mark.parametrize(
        ("name", "value"), [(b"user." + b"n" * (XATTR_NAME_MAX - 4), b""), (b"user.a", b"v" * (XATTR_SIZE_MAX + 1))]
    )
    def test_larger_than_linux_has(self, name: bytes, value: bytes) -> None:
        with pytest.raises(LimitExceeded, match="Linux allows 255 and 65536"):
            xattrs({b"SCHILY.xattr." + name: value})
        assert xattrs({b"SCHILY.xattr." + name[:XATTR_NAME_MAX]: value[:XATTR_SIZE_MAX]})

    @pytest.mark.parametrize(
        ("key", "value", "match"),
        [
            (b"LIBARCHIVE.xattr.user.a", b"a*", "in base64"),
            (b"LIBARCHIVE.xattr.user.a", b"abcde", "in base64"),
            (b"LIBARCHIVE.xattr.user.%00", b"", "cannot hold NUL"),
            (b"SCHILY.xattr.system.posix_acl_access", b"x", "access control list"),
        ],
    )
    def test_what_is_none(self, key: bytes, value: bytes, match: str) -> None:
        with pytest.raises(CorruptImage, match=match):
            xattrs({key: value})

    def test_users_without_their_numbers(self) -> None:
        with pytest.raises(UnsupportedFeature):
            xattrs({b"SCHILY.acl.access": b"user::rwx,user:alice:r--,group::r-x,mask::r-x,other::---"})
