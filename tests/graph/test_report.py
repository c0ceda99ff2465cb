"""What a person sees of a run."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from doit.exceptions import TaskError, TaskFailed

from recipes.graph.report import Reporter
from tests.kit.project import disk
from tests.kit.spaces import build, opened

if TYPE_CHECKING:
    from recipes.project.workspace import Workspace
    from tests.kit.project import Project


@pytest.fixture
def space(project: Project, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    project.declare("a", disk("a"))
    return opened(project, monkeypatch)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def reporter(space: Workspace, out: io.StringIO) -> Reporter:
    found = Reporter(out, {"show_out": False, "failure_verbosity": 0})
    found.initialize({}, [])
    assert space.session.progress is found._console
    return found


def task(name: str, **more: Any) -> SimpleNamespace:
    kind, _, image = name.partition(":")
    plain: dict[str, Any] = {
        "name": name,
        "meta": {"kind": kind, "image": image},
        "options": {},
        "values": {},
        "actions": [1],
    }
    return SimpleNamespace(**{**plain, "title": lambda: name, **more})


def test_a_download_says_how_much_and_from_where(reporter: Reporter, out: io.StringIO, space: Workspace) -> None:
    reporter.execute_task(task("fetch:a"))
    url = space.identity(space.images["a"]).urls[0]
    assert out.getvalue() == f".  fetch:a  2.0 MiB from {url}\n"


def test_no_secret_of_a_url_is_shown(project: Project, out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare("a", disk("a"))
    source = project.declared["a"]["source"]
    source["url"] = "https://me:sesame@h.example/a.img"
    project.write()
    opened(project, monkeypatch)
    found = Reporter(out, {"show_out": False, "failure_verbosity": 0})
    found.initialize({}, [])
    found.execute_task(task("fetch:a"))
    assert "sesame" not in out.getvalue()
    assert "h.example/a.img" in out.getvalue()


def test_each_task_has_a_line_but_for_those_that_take_no_time(reporter: Reporter, out: io.StringIO) -> None:
    for name in ("raw:a", "resolve:a", "pull:a"):
        reporter.execute_task(task(name))
    reporter.execute_task(task("lima:a", options={"template": True}))
    reporter.skip_uptodate(task("raw:a"))
    reporter.skip_uptodate(task("resolve:a"))
    assert out.getvalue() == ".  raw:a\n-- raw:a\n"


def test_what_was_made(reporter: Reporter, out: io.StringIO, space: Workspace) -> None:
    build(space, "raw", "a")
    reporter.add_success(task("raw:a", values={"key": "x"}))
    said = out.getvalue()
    assert said.startswith("   raw:a: 2.0 MiB, ")
    assert " on disk" in said


def test_an_input_that_nobody_lacked_made_nothing(reporter: Reporter, out: io.StringIO) -> None:
    reporter.add_success(task("content:a"))
    reporter.add_success(task("raw:a", values={"key": "x"}))
    reporter.add_success(task("hello", meta=None))
    assert out.getvalue() == ""


class TestFailures:
    def fail(self, reporter: Reporter, message: str, name: str = "raw:a") -> None:
        reporter.add_failure(task(name), TaskFailed(message))

    def test_in_the_words_of_the_error(self, reporter: Reporter, out: io.StringIO) -> None:
        self.fail(reporter, "no\n  hint: try")
        assert out.getvalue() == "raw:a: no\n  hint: try\n"

    def test_whose_work_says_whose_it_is(self, reporter: Reporter, out: io.StringIO) -> None:
        self.fail(reporter, "raw:a: no")
        assert out.getvalue() == "raw:a: no\n"
        self.fail(reporter, "fetch:a: 404")
        assert out.getvalue().endswith("raw:a: fetch:a: 404\n")

    def test_of_what_is_a_bug(self, reporter: Reporter, out: io.StringIO) -> None:
        reporter.add_failure(task("raw:a"), TaskError("bug", ValueError("a bug")))
        assert "a bug" in out.getvalue()

    def test_are_told_once(self, reporter: Reporter, out: io.StringIO) -> None:
        self.fail(reporter, "no")
        before = out.getvalue()
        reporter.complete_run()
        assert out.getvalue() == before


def test_several_images_are_summed_up(project: Project) -> None:
    for name in "abc":
        project.declare(name, disk(name))
    assert "images:" not in project.ok("raw:a")
    (project.upstream / "c.img").unlink()
    out = project.doit("run", "-c", "raw:a", "raw:b", "raw:c").out
    assert re.search(r"^3 images: 3 made, 1 current, \d+ failed, in \d.* s$", out, re.MULTILINE), out


def test_nothing_internal_is_named(project: Project) -> None:
    project.follow("a", "https://example.org/a.img", (project.upstream / "SUMS").as_uri())
    result = project.doit("raw:a")
    assert result.status == 1
    assert "SUMS" in result.out
    assert "_sums" not in result.out + result.err
