"""The part by itself: what an earlier process left, and what is made of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from recipes.sources.part import Blob, Origin, Part, Section
from tests.kit.downloads import digest_of, sidecar

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import Digest

DATA = bytes(range(256)) * 100
HALF = len(DATA) // 2
URL = "https://example.org/disk.img"
STRONG = Origin.of(URL, len(DATA), {"ETag": '"v1"'})
WEAK = Origin.of(URL, len(DATA), {})


def leave(path: Path, data: bytes, origin: Origin | None = STRONG, digest: Digest | None = None) -> None:
    """Leave a part as a killed process does."""
    with Part(path, digest or digest_of(DATA)) as part:
        part.begin(origin or WEAK)
        part.write(data)
    path.write_bytes(data)
    if origin is None:
        sidecar(path).unlink()


def restored(path: Path, digest: Digest | None = None) -> tuple[Part, list[int]]:
    told: list[int] = []
    part = Part(path, digest or digest_of(DATA))
    part.restore(told.append)
    part._close()
    return part, told


class TestOrigins:
    def test_without_credentials(self) -> None:
        assert Origin.of("https://me:sesame@example.org/x?sig=1", 5, {}).url.startswith("https://example.org/x")
        assert "sesame" not in str(Origin.of("https://me:sesame@example.org/x", 5, {}))

    @pytest.mark.parametrize(
        ("headers", "validator"),
        [
            ({"ETag": '"v1"'}, '"v1"'),
            ({"ETag": 'W/"v1"'}, None),
            ({"ETag": "v1"}, None),
            ({"ETag": '"a"b"'}, None),
            ({"ETag": '""'}, '""'),
            ({}, None),
            ({"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}, None),
            ({"Last-Modified": "x", "Date": "y"}, None),
        ],
    )
    def test_what_if_range_takes(self, headers: dict[str, str], validator: str | None) -> None:
        assert Origin.of(URL, None, headers).validator == validator

    @pytest.mark.parametrize(("second", "strong"), [(59, False), (0, False)])
    def test_a_date_is_strong_after_a_minute(self, second: int, strong: bool) -> None:
        early = "Thu, 01 Jan 2026 00:00:00 GMT"
        headers = {"Last-Modified": early, "Date": f"Thu, 01 Jan 2026 00:00:{second:02} GMT"}
        assert (Origin.of(URL, None, headers).validator == early) is strong
        headers["Date"] = "Thu, 01 Jan 2026 00:01:00 GMT"
        assert Origin.of(URL, None, headers).validator == early
        # Beside an ETag that is weak, too.
        assert Origin.of(URL, None, {**headers, "ETag": 'W/"v1"'}).validator == early


class TestRestoring:
    def test_a_beginning(self, part: Path) -> None:
        leave(part, DATA[:HALF])
        found, told = restored(part)
        assert (found.position, found.origin, found.pieced, sum(told)) == (HALF, STRONG, True, HALF)
        assert found.continuation(URL) == {"Range": f"bytes={HALF}-", "If-Range": '"v1"'}
        assert found.left() == STRONG

    def test_all_of_it_needs_no_origin(self, part: Path) -> None:
        leave(part, DATA, WEAK)
        assert restored(part)[0].complete
        leave(part, DATA, None)
        assert restored(part)[0].complete

    @pytest.mark.parametrize("kind", ["no validator", "no sidecar", "another digest", "nonsense", "other fields", "[]"])
    def test_what_cannot_be_gone_on_with(self, part: Path, kind: str) -> None:
        leave(part, DATA[:HALF], {"no validator": WEAK, "no sidecar": None}.get(kind, STRONG))
        if kind == "another digest":
            leave(part, DATA[:HALF], digest=digest_of(b"other"))
        elif kind in ("nonsense", "[]"):
            sidecar(part).write_text(kind)
        elif kind == "other fields":
            sidecar(part).write_text(json.dumps({"digest": str(digest_of(DATA)), "url": URL}))
        assert Part(part, digest_of(DATA)).left() is None
        found, told = restored(part)
        assert (found.position, sum(told), found.origin) == (0, 0, None)
        assert list(part.parent.iterdir()) == []

    def test_a_sidecar_without_its_part(self, part: Path) -> None:
        leave(part, DATA[:HALF])
        part.unlink()
        assert restored(part)[0].position == 0
        assert not sidecar(part).exists()


class TestWriting:
    def test_the_sidecar_is_there_before_the_first_byte(self, part: Path) -> None:
        with Part(part, digest_of(DATA)) as kept:
            kept.begin(STRONG)
            assert json.loads(sidecar(part).read_text())["validator"] == '"v1"'
            assert part.stat().st_size == 0

    def test_to_its_end(self, part: Path) -> None:
        with Part(part, digest_of(DATA)) as kept:
            kept.begin(STRONG)
            for at in range(0, len(DATA), 1000):
                assert not kept.complete
                kept.write(DATA[at : at + 1000])
            assert kept.complete
            kept.finish()
        assert part.read_bytes() == DATA
        assert not sidecar(part).exists()

    def test_beginning_anew_forgets(self, part: Path) -> None:
        with Part(part, digest_of(DATA)) as kept:
            kept.begin(STRONG)
            kept.write(b"wrong")
            assert kept.actual == digest_of(b"wrong")
            kept.begin(WEAK)
            assert (kept.position, kept.pieced) == (0, False)
            kept.write(DATA)
            assert kept.complete

    def test_nothing_is_not_complete(self, part: Path) -> None:
        assert not Part(part, digest_of(b"")).complete


def test_the_rest_is_asked_for_where_it_began(part: Path) -> None:
    leave(part, DATA[:HALF])
    found, _ = restored(part)
    assert found.continuation("https://other.test/disk.img") == {}
    assert found.continuation("https://me:sesame@example.org/disk.img") == found.continuation(URL)


@pytest.mark.parametrize(
    ("headers", "agrees"),
    [({}, True), ({"ETag": '"v1"'}, True), ({"ETag": '"v2"'}, False), ({"Last-Modified": "x"}, False)],
)
def test_a_server_that_ignores_if_range_tells_by_its_headers(part: Path, headers: dict[str, str], agrees: bool) -> None:
    leave(part, DATA[:HALF])
    assert restored(part)[0].agrees(headers) is agrees


class TestBlobs:
    def test_any_url_goes_on_with_it(self, part: Path) -> None:
        leave(part, DATA[:HALF], WEAK)
        with Blob(part, digest_of(DATA)) as blob:
            blob.restore(lambda count: None)
            assert blob.position == HALF
            assert blob.continuation("https://cdn.test/x") == {"Range": f"bytes={HALF}-"}
            assert blob.agrees({"ETag": '"another"'})

    def test_by_another_name(self, part: Path) -> None:
        leave(part, DATA[:HALF], WEAK, digest_of(DATA, "sha512"))
        with Blob(part, digest_of(DATA)) as blob:
            blob.restore(lambda count: None)
            assert blob.position == 0
        leave(part, DATA[:HALF], WEAK, digest_of(DATA, "sha512"))
        with Blob(part, digest_of(DATA), [digest_of(DATA, "sha512")]) as blob:
            blob.restore(lambda count: None)
            assert blob.position == HALF


class TestSections:
    BEFORE = b"header" * 100

    def section(self, part: Path) -> Section:
        before = hashlib.sha256(self.BEFORE)
        return Section(part, digest_of(DATA), start=len(self.BEFORE), size=len(DATA), before=before)

    @pytest.mark.parametrize("there", [0, 1, HALF, len(DATA)])
    def test_what_is_there_is_taken_over(self, part: Path, there: int) -> None:
        part.write_bytes(self.BEFORE + DATA[:there])
        told: list[int] = []
        with self.section(part) as section:
            section.restore(told.append)
            assert (section.position, sum(told), section.complete) == (there, there, there == len(DATA))
            if not section.complete:
                section.write(DATA[there:])
            assert section.complete
            assert section.whole.hexdigest() == hashlib.sha256(self.BEFORE + DATA).hexdigest()
            section.finish()
        assert part.read_bytes() == self.BEFORE + DATA
        assert not sidecar(part).exists()

    def test_what_is_behind_is_left_alone(self, part: Path) -> None:
        part.write_bytes(self.BEFORE + DATA + b"behind")
        with self.section(part) as section:
            section.restore(lambda count: None)
            assert section.complete
        assert part.read_bytes().endswith(b"behind")

    def test_wrong_bytes_are_cut_off(self, part: Path) -> None:
        part.write_bytes(self.BEFORE + b"x" * len(DATA) + b"behind")
        told: list[int] = []
        with self.section(part) as section:
            section.restore(told.append)
            assert (section.position, sum(told)) == (0, 0)
        assert part.read_bytes() == self.BEFORE

    def test_beginning_anew_forgets(self, part: Path) -> None:
        part.write_bytes(self.BEFORE + b"xyz")
        with self.section(part) as section:
            section.restore(lambda count: None)
            assert section.allocated == 3
            section.begin(STRONG)
            assert section.position == 0
            section.write(DATA)
            assert section.whole.hexdigest() == hashlib.sha256(self.BEFORE + DATA).hexdigest()
            section.finish()
        assert part.read_bytes() == self.BEFORE + DATA
