"""A short campaign, always the same one; the long ones are ``python -m tests.hostile``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.oracles import need

from .campaign import TARGETS, Campaign

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = 100


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_hostile_is_refused_or_read_as_others_read_it(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    need(*target.tools)
    with Campaign([target], seed=0, keep=tmp_path) as campaign:
        campaign.run(range(INPUTS))
    row = campaign.rows[name]
    assert not row.findings
    # Neither judge nor mutation is so blunt that nothing comes through, or everything.
    assert row.accepted
    assert row.refused
    assert row.equal is None or row.equal
