"""A dodo.py of one's own, through the real program: it fetches, and its task uses what was made."""

from __future__ import annotations

import tomllib

from tests.kit.project import OWN_DODO, Project, disk


def test_a_task_that_uses_an_artifact(bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(OWN_DODO)
    assert bare.real("use").status == 0
    assert (bare.folder / "used").read_bytes() == disk("a")
    result = bare.real("use")
    assert (result.status, result.out) == (0, "-- raw:a\n-- use\n")
    assert not list(bare.folder.glob(".doit*"))


def test_what_it_says_of_the_run_counts(bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(OWN_DODO.replace("globals())", 'globals(), default_tasks=["use"])'))
    assert ".  use\n" in bare.ok()


def test_an_artifact_that_cannot_be(bare: Project) -> None:
    (bare.folder / "dodo.py").write_text(OWN_DODO.replace('path("raw:a")', 'path("raw:b")'))
    for result in (bare.larder("list"), bare.doit("list")):
        assert result.status == 3
        assert result.err == "expected KIND:IMAGE as `larder list` shows them, got 'raw:b'; did you mean raw:a?\n"


def test_the_declarations_may_be_above(bare: Project) -> None:
    below = bare.folder / "below"
    below.mkdir()
    (below / "dodo.py").write_text(OWN_DODO)
    assert "use" in bare.larder_ok("list", folder=below).split()
    assert tomllib.loads((bare.folder / "images.toml").read_text())["images"].keys() == {"a"}


def test_the_front_door_of_the_checkout_is_one_too() -> None:
    from tests.kit.project import REPOSITORY

    assert (REPOSITORY / "dodo.py").read_text().endswith(OWN_DODO.partition("\n\n\n")[0] + "\n")
