from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.derive.engine import RECIPES
from recipes.derive.recipe import Limits, Recipe, Work
from tests.kit.machines import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.cache.receipt import Receipt
    from recipes.cache.store import Held


def work(machine: Machine, held: Held, source: Receipt | None) -> Work:
    limits = Limits({}, 1 << 30, 3, offline=False)
    return Work(
        machine.image,
        machine.identity,
        held,
        limits,
        machine.progress,
        held.temporary("raw"),
        source,
        keep_source=False,
    )


def test_how_work_is_to_be_done(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", "registry.invalid")
    with machine.entry.hold() as held:
        context = work(machine, held, None).context("raw")
        assert (context.label, context.jobs, context.limit) == ("raw:thing", 3, 1 << 30)
        assert context.scratch is not None
        one, other = context.scratch(), context.scratch()
        assert one != other
        assert one.parent == machine.entry.path
        assert not one.exists()


def test_an_input_and_none(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", "registry.invalid")
    machine.entry.ask("fetch")
    receipt = machine.build("fetch")
    with machine.entry.hold() as held:
        assert work(machine, held, receipt).input() == (machine.entry.artifact("fetch"), receipt)
        with pytest.raises(AssertionError, match="without an input"):
            work(machine, held, None).input()


def test_a_name_has_the_version(tmp_path: Path) -> None:
    def make(work: Work) -> None:
        raise NotImplementedError

    recipe = Recipe("raw", 7, make)  # type: ignore[arg-type]
    assert recipe.name == "raw/7"
    machine = Machine(tmp_path / "a", "registry.invalid")
    assert recipe.parameters(machine.image, machine.identity) == {}


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_each_recipe_is_of_its_kind(kind: str) -> None:
    assert RECIPES[kind].kind == kind
    assert RECIPES[kind].version > 0
