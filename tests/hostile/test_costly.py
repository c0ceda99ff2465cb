"""What costs most costs no more than its bytes allow; the long search is ``python -m tests.hostile --costly``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.kit.oracles import need

from . import sandbox
from .campaign import TARGETS
from .costly import BOMBS, Search
from .target import Target

if TYPE_CHECKING:
    from pathlib import Path

#: Inputs beside the valid ones.
STEPS = 25


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, tmp_path: Path) -> None:
    bomb = BOMBS[name]
    source, out = tmp_path / "input", tmp_path / "out"
    data = bomb.make()
    source.write_bytes(data)
    outcome = sandbox.run(partial(TARGETS[bomb.target].read, source, out), tmp_path, len(data))
    assert outcome.wrong == ""
    assert outcome.accepted == out.exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"input", "out"}


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_search(name: str) -> None:
    target = TARGETS[name]
    need(*target.tools)
    with Search(target, seed=0, bombs=False) as search:
        while search.found.inputs < STEPS:
            search.step()
    assert not [said for said, _ in search.found.findings]


def test_a_search_finds_what_costs_more_and_more() -> None:
    """A reader that writes the square of the longest run of one byte."""

    def read(source: Path, out: Path) -> None:
        longest = max(map(len, source.read_bytes().split(b"a")))
        with out.open("wb") as file:
            file.truncate(0)
            for _ in range(min(longest, 100)):
                file.write(b"w" * longest)

    planted = Target("planted", lambda _: [b"ab" * 50], lambda rng, data, _: data, read)
    with Search(planted, seed=0, bombs=False) as search:
        search.step()
        first = search.found.worst[2][1].written
        for _ in range(60):
            search.step()
    assert search.found.worst[2][1].written > 1000 * first
