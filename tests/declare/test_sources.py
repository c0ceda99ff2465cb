from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from recipes.declare.findings import Findings
from recipes.declare.sources import SOURCE_KEYS, SourceReader
from recipes.model import Digest, Source

if TYPE_CHECKING:
    from pathlib import Path

SHA = "sha256:" + "0f" * 32
URL = "https://h.example/a.img"
LIST = "https://h.example/SHA256SUMS"
TAG = "oci://registry.test/acme/thing:1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "key.asc").write_text("key")
    return tmp_path


def read(folder: Path, value: object) -> tuple[Source, list[str]]:
    """Return the source, and what is wrong: the key, and what is said."""
    findings = Findings()
    source = SourceReader(findings, folder).read(("t",), value)
    return source, [f"{'.'.join(map(str, problem.path[1:]))}: {problem.message}" for problem in findings.problems]


def test_everything(folder: Path) -> None:
    entries = {
        **{"url": [URL, "./b.img"], "digest": SHA, "size": 5, "checksums": "./SUMS", "pattern": "*.img"},
        **{"signature": "./SUMS.gpg", "keyring": "key.asc", "strip": "a/b/", "member": "*.vmdk", "disktype": "qemu"},
    }
    assert set(entries) == set(SOURCE_KEYS)
    source, wrong = read(folder, entries)
    assert wrong == []
    assert source == Source(
        (URL, (folder / "b.img").as_uri()),
        Digest.parse(SHA),
        5,
        (folder / "SUMS").as_uri(),
        "*.img",
        (folder / "SUMS.gpg").as_uri(),
        folder / "key.asc",
        "a/b",
        "*.vmdk",
        "qemu",
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, ["needs a url", "needs digest or checksums"]),
        ({"url": []}, ["expected at least one url", "needs digest or checksums"]),
        ({"url": URL}, ["needs digest or checksums"]),
        ({"url": URL, "digest": "md5:00"}, ["digest: "]),
        ({"url": [URL, URL], "digest": SHA}, ["is listed twice"]),
        ({"url": URL, "digest": SHA, "pattern": "*.img"}, ["pattern: is for a checksum list"]),
        ({"url": URL, "digest": SHA, "keyring": "key.asc"}, ["keyring: is for a checksum list"]),
        ({"url": URL, "checksums": LIST, "signature": f"{LIST}.gpg"}, ["signature: needs keyring"]),
        ({"url": URL, "checksums": LIST, "keyring": "gone.asc"}, ["keyring: expected a file of OpenPGP keys"]),
        ({"url": URL, "checksums": LIST, "pattern": "*.iso"}, ['pattern: "*.iso" is not what']),
        ({"url": URL, "checksums": LIST, "pattern": "a//b"}, ["pattern: expected a file name"]),
        ({"url": URL, "digest": SHA, "strip": "../x"}, ["strip: expected the folder"]),
        ({"url": URL, "digest": SHA, "strip": "/x"}, ["strip: expected the folder"]),
        ({"url": URL, "digest": SHA, "size": 0}, ["size: expected a number of bytes"]),
        ({"url": "https://h.example/a-*.img", "digest": SHA}, ["url: * in"]),
        ({"url": URL, "checksums": "nonsense"}, ["checksums: expected a url"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong(folder: Path, value: dict[str, Any], said: list[str]) -> None:
    _, wrong = read(folder, value)
    assert len(wrong) == len(said)
    assert all(part in found for part, found in zip(said, wrong, strict=True))


@pytest.mark.parametrize("value", [None, 5, [], "x"])
def test_what_is_no_table_is_for_the_schema_to_say(folder: Path, value: object) -> None:
    source, wrong = read(folder, value)
    assert (source.urls, wrong) == ((), [])


def test_a_keyring_that_cannot_be_looked_for(folder: Path) -> None:
    _, wrong = read(folder, {"url": URL, "checksums": LIST, "keyring": "x" * 5000})
    assert len(wrong) == 1


class TestRegistries:
    def test_a_tag_needs_no_more(self, folder: Path) -> None:
        source, wrong = read(folder, {"url": TAG})
        assert (source.digest, wrong) == (None, [])

    def test_a_pin_in_the_url_pins(self, folder: Path) -> None:
        source, wrong = read(folder, {"url": [f"{TAG}@{SHA}", TAG]})
        assert (source.digest, wrong) == (Digest.parse(SHA), [])

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ({"checksums": LIST}, "checksums: is not for"),
            ({"size": 5}, "size: is not for"),
            ({"digest": "sha512:" + "a0" * 64}, "expected the sha256 of a manifest"),
            ({"url": [TAG, URL]}, "expected "),
            ({"url": f"{TAG}@{SHA}", "digest": "sha256:" + "1" * 64}, ""),
        ],
    )
    def test_what_is_not_for_them(self, folder: Path, more: dict[str, Any], said: str) -> None:
        _, wrong = read(folder, {"url": TAG, **more})
        assert len(wrong) >= 1
        assert said in wrong[0]

    def test_what_is_no_reference(self, folder: Path) -> None:
        _, wrong = read(folder, {"url": "oci://registry.test/UPPER:1"})
        assert len(wrong) == 1
