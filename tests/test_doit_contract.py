"""What graph/ relies on in doit and doit does not document. A new doit that breaks one of these is not for us yet."""

from __future__ import annotations

import inspect
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from doit.cmd_run import Run
from doit.dependency import Dependency, MD5Checker, SqliteDB
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed
from doit.loader import generate_tasks
from doit.runner import MThreadRunner
from doit.task import Task
from doit.tools import result_dep

from recipes.declare.images import COMMANDS
from recipes.graph.database import WriteThrough
from recipes.graph.run import _Worker

if TYPE_CHECKING:
    import queue
    from collections.abc import Iterator
    from pathlib import Path


def test_run_passes_options_by_the_names_in_the_signature() -> None:
    from recipes.graph.run import Run as LarderRun

    ours, theirs = (inspect.signature(run._execute).parameters.keys() for run in (LarderRun, Run))
    assert ours == theirs


def test_the_row_of_a_task_is_complete_when_deps_is_set(tmp_path: Path) -> None:
    written: list[str] = []

    class Recording(SqliteDB):  # type: ignore[misc]
        def set(self, task_id: str, dependency: str, value: Any) -> None:
            written.append(dependency)
            super().set(task_id, dependency, value)

    manager = Dependency(Recording, str(tmp_path / "db"))
    task = Task("a", [])
    task.values, task.result = {"key": "k"}, {"key": "k"}
    manager.save_success(task)
    manager.close()
    assert written[-1] == "deps:"


def test_a_result_dep_is_a_task_dep() -> None:
    task = Task("raw:a", [], uptodate=[result_dep("resolve:a")])
    assert task.task_dep == ["resolve:a"]


def test_a_calculator_alone_makes_a_task_up_to_date_without_a_record(tmp_path: Path) -> None:
    target = tmp_path / "target"
    manager = Dependency(SqliteDB, str(tmp_path / "db"), checker_cls=MD5Checker)
    task = Task("a", [], targets=[str(target)], uptodate=[True], setup=["b"])
    assert manager.get_status(task, {}).status == "run"
    target.touch()
    assert manager.get_status(task, {}).status == "up-to-date"
    manager.close()


def test_the_signature_of_a_calculator_may_be_given(tmp_path: Path) -> None:
    """doit asks inspect which of its arguments a calculator takes, and hands it those, by the signature it gives."""
    given: list[tuple[Any, ...]] = []

    class Calculator:
        __signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("task", "values")]
        )

        def __call__(self, *arguments: Any, **named: Any) -> bool:
            given.append((arguments, tuple(named)))
            return True

    manager = Dependency(SqliteDB, str(tmp_path / "db"), checker_cls=MD5Checker)
    task = Task("a", [], uptodate=[Calculator()])
    assert manager.get_status(task, {}).status == "up-to-date"
    manager.close()
    ((arguments, named),) = given
    assert (arguments[0] is task or "task" in named, len(arguments) + len(named)) == (True, 2)

    from recipes.graph.tasks.derivations import Current

    assert list(inspect.signature(Current("raw", "a")).parameters) == ["task", "values"]


def test_options_are_read_once_and_what_follows_is_given_back() -> None:
    task = Task("a", [], params=[{"name": "to", "long": "to", "type": list, "default": []}])
    assert task.init_options(["--to", "x, y", "--to", "z", "b"]) == ["b"]
    assert task.options == {"to": ["x, y", "z"]}
    # graph/clone.py gives these back itself.
    assert task.init_options(["b"]) is None


def test_a_creator_may_yield_tasks() -> None:
    task = Task("group:a", [], subtask_of="group")
    group, found = generate_tasks("group", iter_of({"basename": "group", "name": None}, task))
    assert found is task
    assert group.has_subtask
    assert not group.task_dep


def iter_of(*values: Any) -> Iterator[Any]:
    yield from values


def test_failures_carry_their_message() -> None:
    failure = TaskFailed("what happened", report=False)
    assert failure.message == "what happened"
    assert failure.get_name() == "TaskFailed"
    assert not failure.report


def test_threads_of_the_runner_can_be_told_from_others() -> None:
    assert issubclass(MThreadRunner.DaemonThread, threading.Thread)


def test_threads_of_the_runner_end_when_there_is_nothing_more_to_do() -> None:
    """They are made by the class that is named there, with the queue of their tasks first; None in it ends one."""
    runner = MThreadRunner(None, None)
    jobs: queue.Queue[None] = MThreadRunner.Queue()
    worker = _Worker(target=runner.execute_task_subprocess, args=(jobs, MThreadRunner.Queue(), object))
    worker.start()
    worker.jobs.put(None)
    worker.join(20)
    assert not worker.is_alive()


class TestWriteThrough:
    def open(self, path: Path) -> Dependency:
        return Dependency(WriteThrough, str(path))

    def saved(self, name: str) -> Task:
        task = Task(name, [])
        task.values = {"key": name}
        return task

    def test_a_record_survives_a_process_that_never_closes(self, tmp_path: Path) -> None:
        first = self.open(tmp_path / "db")
        first.save_success(self.saved("a"))
        second = self.open(tmp_path / "db")
        assert second.get_values("a") == {"key": "a"}
        first.close()
        second.close()

    def test_two_runs_keep_each_others_records(self, tmp_path: Path) -> None:
        first, second = self.open(tmp_path / "db"), self.open(tmp_path / "db")
        first.save_success(self.saved("a"))
        first.remove_success(self.saved("failed"))
        second.save_success(self.saved("b"))
        first.close()
        second.close()
        third = self.open(tmp_path / "db")
        assert third.get_values("a") == {"key": "a"}
        assert third.get_values("b") == {"key": "b"}
        third.close()

    def test_a_broken_file_is_put_aside(self, tmp_path: Path) -> None:
        (tmp_path / "db").write_bytes(b"no database" * 1000)
        manager = self.open(tmp_path / "db")
        manager.save_success(self.saved("a"))
        manager.close()
        assert (tmp_path / "db.broken").read_bytes().startswith(b"no database")


def test_images_have_no_name_that_doit_takes_for_a_command() -> None:
    """`doit NAME` runs the command of that name, wherever it comes from."""
    commands = {command.get_name() for command in DoitMain.DOIT_CMDS}
    commands |= {each.name for each in entry_points(group="doit.COMMAND") if each.value.startswith("recipes.")}
    assert {"run", "prune"} <= commands <= COMMANDS
