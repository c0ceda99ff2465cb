"""The engine in one process: what is made again, what is not, and what is remembered of a run."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from recipes.derive import engine
from recipes.derive.engine import RECIPES, Session
from recipes.errors import FetchError, LarderError, NoSpace
from tests.kit.machines import Machine
from tests.kit.project import disk

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.derive.recipe import Made, Work

DATA = gzip.compress(disk("thing"), mtime=0)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "a", "localhost:1", data=DATA)


def supply(machine: Machine, kind: str, **wanted: set[str]) -> Receipt | None:
    machine.session.wanted = wanted
    return engine.supply(kind, machine.image, machine.identity, machine.session)


class TestAnInput:
    """Called for, and waited for the lock; what has become of that in the meantime?"""

    @pytest.mark.parametrize("kind", ["fetch", "content"])
    def test_that_nobody_lacks_any_more_is_not_made(self, machine: Machine, kind: str) -> None:
        machine.build()
        assert supply(machine, kind, thing={"raw"}) is None
        assert machine.entry.kinds() == ["raw"]

    def test_that_is_lacked_is_made_and_stays_for_what_it_is_for(self, machine: Machine) -> None:
        assert supply(machine, "content", thing={"raw"}) is not None
        assert machine.entry.kinds() == ["content"]

    def test_is_followed_while_it_arrives(self, machine: Machine) -> None:
        assert supply(machine, "fetch", thing={"raw"}) is not None
        assert machine.entry.kinds() == ["fetch", "content"]

    def test_that_another_input_makes_superfluous(self, machine: Machine) -> None:
        machine.build("content")
        assert supply(machine, "fetch", thing={"raw"}) is None
        assert machine.entry.kinds() == ["content"]

    def test_that_was_named_is_made(self, machine: Machine) -> None:
        machine.build()
        assert supply(machine, "fetch", thing={"raw", "fetch"}) is not None

    def test_that_is_declared_is_made(self, machine: Machine) -> None:
        machine.build()
        machine.image = machine.image._replace(derive=("raw", "fetch"))
        assert supply(machine, "fetch", thing={"raw"}) is not None
        assert machine.entry.kinds() == ["fetch", "raw"]

    def test_that_was_asked_for_before_is_made(self, machine: Machine) -> None:
        machine.build()
        machine.entry.ask("content")
        assert supply(machine, "content", thing={"raw"}) is not None

    def test_of_nothing_that_the_run_told_of_is_made(self, machine: Machine) -> None:
        """Somebody's dodo.py has a task that nothing leads to before it runs."""
        machine.image = machine.image._replace(derive=("fetch",))
        machine.build("fetch")
        assert supply(machine, "raw") is not None


class TestRebuilding:
    def test_makes_all_anew_that_is_older_than_the_run(self, machine: Machine) -> None:
        before = machine.build()
        machine.session = Session(machine.session.store, machine.session.limits, rebuilds=True)
        for kind in ("fetch", "content", "raw"):
            assert supply(machine, kind, thing={"raw"}) is not None
        after = machine.entry.receipt("raw")
        assert after is not None
        assert after.artifact.mtime_ns > before.artifact.mtime_ns
        assert machine.entry.kinds() == ["raw"]

    def test_takes_what_another_process_rebuilt_meanwhile(self, machine: Machine) -> None:
        machine.session = Session(machine.session.store, machine.session.limits, rebuilds=True)
        machine.build()
        assert supply(machine, "fetch", thing={"raw"}) is None

    def test_a_clock_that_is_off_rebuilds_nothing_else(self, machine: Machine) -> None:
        """What another process finished meanwhile is taken, whatever its file server thinks that the time is."""
        before = machine.build()
        machine.session.began_ns = 1 << 62
        assert supply(machine, "raw", thing={"raw"}) == before


class TestTwins:
    def test_any_that_is_left_will_do(self, tmp_path: Path, machine: Machine) -> None:
        """The first one that was seen may be pruned during the run."""
        others = [Machine(tmp_path / "a", "localhost:1", data=DATA, name=name) for name in ("one", "two")]
        for other in others:
            other.build()
        session = machine.session
        assert session.twin("raw", machine.key()) is not None
        for gone in others:
            with gone.entry.hold() as held:
                held.remove()
            left = [other.entry.path for other in others if other is not gone and other.entry.kinds()]
            twin = session.twin("raw", machine.key())
            assert (twin[0].path if twin else None) == (left[0] if left else None)

    def test_none_is_its_own(self, machine: Machine) -> None:
        machine.build()
        assert machine.session.twin("raw", machine.key(), of=machine.entry) is None


class TestFailures:
    def fail(self, machine: Machine, monkeypatch: pytest.MonkeyPatch, error: LarderError) -> list[LarderError]:
        """Ask twice for what cannot be made; return what was raised."""

        def make(work: Work) -> Made:
            self.tries += 1
            raise error

        self.tries = 0
        monkeypatch.setitem(RECIPES, "fetch", replace(RECIPES["fetch"], make=make))
        raised = []
        for _ in range(2):
            with pytest.raises(type(error), match="it failed") as caught:
                machine.build()
            raised.append(caught.value)
        return raised

    def test_are_not_tried_again_and_each_thread_raises_its_own(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, other = self.fail(machine, monkeypatch, FetchError("it failed", hint="do something"))
        assert self.tries == 1
        assert one is not other
        assert str(one) == str(other) == "it failed\n  hint: do something"

    def test_lack_of_room_may_be_over(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fail(machine, monkeypatch, NoSpace("it failed"))
        # Twice each: with the draft of the content beside it, and without.
        assert self.tries == 4
