from __future__ import annotations

import pytest

from recipes.formats.io.context import Context
from recipes.units import MAX_SIZE
from tests.kit.watch import Watch


@pytest.mark.parametrize(("what", "label"), [("", "raw:a"), ("checksum", "raw:a: checksum")])
def test_a_meter_has_the_name_of_the_work(what: str, label: str) -> None:
    watch = Watch()
    with Context(watch, "raw:a").meter(7, what=what) as meter:
        meter.advance(3)
    assert (watch.labels, watch.total, watch.done) == ([label], 7, 3)


def test_by_default_nobody_watches_and_all_is_kept() -> None:
    context = Context()
    with context.meter() as meter:
        meter.advance(1)
    assert (context.jobs, context.limit, context.durable, context.scratch) == (1, MAX_SIZE, True, None)
