from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.units import MAX_SIZE, format_duration, format_size, now, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("20GB", 20 * 10**9),
        ("20gb", 20 * 10**9),
        ("512MiB", 512 << 20),
        ("2TiB", 2 << 40),
        ("2 TiB", 2 << 40),
        ("20G", 20 << 30),
        ("1.5GiB", 3 << 29),
        ("0.1kB", 100),
        ("1.0009KiB", 1024),
        ("7.999999999999999999EiB", MAX_SIZE - 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1,5GB", "1.GB", ".5GB", "2 gigs", "2  GB", " 2GB", "2GB\n", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r'expected a size such as "20GB"'):
        parse_size(text)


@pytest.mark.parametrize("text", ["8EiB", "9999999999999999999", "99999999999EB"])
def test_sizes_that_no_file_has(text: str) -> None:
    with pytest.raises(ValueError, match="more than a file can have"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1288490189, "1.2 GiB"),
        (645988352, "616.1 MiB"),
        (2 << 40, "2.0 TiB"),
        (MAX_SIZE, "8.0 EiB"),
        (MAX_SIZE * 2048, "16384.0 EiB"),
        (-3 << 30, "-3.0 GiB"),
    ],
)
def test_formatted_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(1024, MAX_SIZE // 2))
def test_a_formatted_size_reads_back_within_its_rounding(size: int) -> None:
    number, unit = format_size(size).split()
    assert 1 <= float(number) < 1024
    assert abs(parse_size(f"{number}{unit}") - size) <= 0.051 * parse_size(f"1{unit}")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (45.4, "45 s"),
        (59.6, "1 min 0 s"),
        (65, "1 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7380, "2 h 3 min"),
        (86400 * 3 + 3600 * 4 + 59, "3 d 4 h"),
        (86400 * 400, "400 d 0 h"),
    ],
)
def test_formatted_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_now_is_in_utc_and_to_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        before = datetime.now(UTC).replace(microsecond=0)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text := now())
        assert before <= datetime.fromisoformat(text) <= datetime.now(UTC)
    finally:
        monkeypatch.undo()
        time.tzset()
