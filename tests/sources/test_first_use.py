from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from recipes.errors import FetchError, NoSpace
from recipes.sources import first_use
from recipes.sources.access import Access
from recipes.sources.download import RESERVE
from tests.kit.servers import Exchange, misbehaving

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 4096


@pytest.fixture(autouse=True)
def _quick(quick_and_alone: None) -> None:
    """See tests/conftest.py."""


def test_what_came_is_what_is_pinned(tmp_path: Path) -> None:
    with misbehaving(lambda exchange: exchange.file(DATA)) as server:
        digest, size = first_use.take(f"{server.url}/a", tmp_path / "part", Access(), label="a")
    assert (digest.algorithm, digest.hex, size) == ("sha256", hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert (tmp_path / "part").read_bytes() == DATA


def test_what_was_cut_off_starts_over(tmp_path: Path) -> None:
    cuts = [1000, None]

    def behave(exchange: Exchange) -> None:
        exchange.file(DATA, stop=cuts.pop(0))

    with misbehaving(behave) as server:
        digest, _ = first_use.take(f"{server.url}/a", tmp_path / "part", Access(), label="a")
    assert digest.hex == hashlib.sha256(DATA).hexdigest()
    assert (tmp_path / "part").read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (404, b"no", {}),
        (200, b"<html>login</html>", {"Content-Type": "text/html"}),
        (200, b"<html>login</html>", {}),
        (200, b"", {}),
    ],
)
def test_what_is_no_image(status: int, body: bytes, headers: dict[str, str], tmp_path: Path) -> None:
    def behave(exchange: Exchange) -> None:
        exchange.reply(status, body, **headers)

    with misbehaving(behave) as server, pytest.raises(FetchError):
        first_use.take(f"{server.url}/a", tmp_path / "part", Access(), label="a")
    assert not list(tmp_path.iterdir())


def test_a_body_that_has_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": RESERVE + 1000}))

    def behave(exchange: Exchange) -> None:
        exchange.start(200, {"Transfer-Encoding": "chunked"})
        for _ in range(64):
            exchange.chunk(DATA)
        exchange.chunk(b"")

    with misbehaving(behave) as server, pytest.raises(NoSpace):
        first_use.take(f"{server.url}/a", tmp_path / "part", Access(), label="a")
    assert not list(tmp_path.iterdir())
