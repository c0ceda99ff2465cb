"""`doit run`, as larder needs it; in a project that is not larder's it is doit's own.

Three things are known nowhere else: what was named on the command line (so that it is kept), which groups were (so
that doit walks their images one after the other), and when the run ends (so that leftovers go).
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doit
from doit.cmd_run import Run as DoitRun
from doit.cmdparse import CmdOption, CmdParseError
from doit.exceptions import InvalidCommand, TaskFailed, UnmetDependency
from doit.runner import MThreadRunner

from recipes import interruption
from recipes.cache import usage
from recipes.derive import engine
from recipes.errors import LarderError
from recipes.kinds import DERIVABLE, KINDS
from recipes.project import workspace

from . import arguments
from .commands import manual
from .commands.command import INTERRUPTED
from .commands.spoken import BROKEN, FAILED, Parser, Spoken
from .missing import unknown
from .tasks.optional import OptionTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from queue import SimpleQueue

    from doit.task import Task

    from recipes.interruption import Interruption
    from recipes.model import Image

#: Seconds that all threads together may take to clean up, once they were told to stop.
_STOP_SECONDS = 0.5
#: Groups whose tasks a pattern names only where it begins with the group's name.
_ACTS = ("clone", "push")
_FRESH = {
    "name": "fresh",
    "long": "fresh",
    "type": bool,
    "default": False,
    "help": "ask upstream for every checksum list, however lately that was done",
}


class Run(Spoken, DoitRun):  # type: ignore[misc]
    """Run tasks."""

    doc_purpose = "make what is named; `run` itself may be left out"
    doc_usage = "[OPTION ...] [KIND:IMAGE | IMAGE | KIND | TASK ...]"
    doc_description = """KIND:IMAGE makes one artifact, KIND that of every image, IMAGE what images.toml says of it, and
no name what it has with prewarm = true. A pattern such as 'raw:debian-*' names what it matches."""
    options_anywhere = False

    sel_tasks: list[str] | None
    cmd_options = (*DoitRun.cmd_options, _FRESH)

    def parse_execute(self, in_args: list[str]) -> int:
        """Read the command line and run it."""
        groups = task_options()
        if any(map(arguments.is_variable, sys.argv)):
            options = [*self.get_options(), *(option for group in groups.values() for option in group)]
            in_args = arguments.restored(in_args, sys.argv[1:], options)
        self._about = arguments.asked_about(in_args, self.get_options(), groups)
        status: int = super().parse_execute(arguments.sorted_out(in_args, self.get_options(), groups))
        return status

    def asks_for_help(self, in_args: Sequence[str]) -> bool:
        """Say whether it is larder that is asked: tasks of others may have such options."""
        return self._about is not None

    def help(self) -> str:
        """Return how the first task on the command line is used, or else the command itself."""
        return (self._about and manual.of_word(self._about.partition(":")[0], self.bin_name)) or super().help()

    def execute(self, params: Any, args: list[str]) -> int:
        """Load the project and run it."""
        arguments.watch()
        require_usable(params)
        self._fresh: bool = params["fresh"]
        try:
            status: int = super().execute(params, args)
        except KeyboardInterrupt:
            # Before there was anything to interrupt.
            sys.stderr.write("larder: interrupted\n")
            return INTERRUPTED
        return status

    # doit finds the options to pass in the signature, which wraps() keeps.
    @functools.wraps(DoitRun._execute)
    def _execute(self, **options: Any) -> int:
        if not workspace.is_open():
            return self._run(options)
        arguments.require_asked()
        with interruption.heard(workspace.stop, farewell="interrupted; the same command goes on from here") as heard:
            return self._execute_heard(options, heard)

    def _execute_heard(self, options: dict[str, Any], heard: Interruption) -> int:
        if self._fresh:
            workspace.current().lists.expire()
        tasks = {task.name: task for task in self.task_list}
        if not self.sel_tasks:
            images = workspace.current().settings.images.name
            raise InvalidCommand(f"no image in {images} has prewarm = true: name a task, `larder list` shows them")
        self.sel_tasks = expand(self.sel_tasks, tasks)
        named = {name: tasks[name] for name in self.sel_tasks if name in tasks}
        session = workspace.current().session
        session.wanted, session.rebuilds = wanted(named, tasks), bool(options.get("always"))
        try:
            if not self.sel_default_tasks:
                _remember(named)
            return self._told_apart(options)
        except KeyboardInterrupt:
            if not _stop_threads():
                heard.end()
            heard.bid_farewell()
            return INTERRUPTED
        except LarderError as error:
            sys.stderr.write(f"larder: {error}\n")
            return workspace.USAGE_ERROR
        finally:
            _tidy(named)

    def _told_apart(self, options: dict[str, Any]) -> int:
        """Run, and return 2 for bugs only: doit has that for a task whose input could not be made, too."""
        reporter = options["reporter"]
        kind = self.reporters[reporter] if isinstance(reporter, str) else reporter
        failures: list[object] = []
        status = self._run({**options, "reporter": type(kind.__name__, (_Noting, kind), {"failures": failures})})
        if status == BROKEN and failures and all(isinstance(each, (TaskFailed, UnmetDependency)) for each in failures):
            return FAILED
        return status

    def _run(self, options: dict[str, Any]) -> int:
        MThreadRunner.Child = _Worker
        status: int = super()._execute(**options)
        return status


class _Noting:
    """A reporter that keeps what failed, beside telling it."""

    failures: list[object]

    def add_failure(self, task: Task, failure: object) -> None:
        """Keep and tell a failure."""
        self.failures.append(failure)
        super().add_failure(task, failure)  # type: ignore[misc]


def task_options() -> dict[str, list[CmdOption]]:
    """Return the options of larder's tasks by their groups; doit knows them only once tasks are loaded."""
    found: dict[str, list[CmdOption]] = {kind: [] for kind in KINDS}
    for act in manual.acts().values():
        found[act.name] = [CmdOption(each) for each in act.params]
    return found


def require_usable(params: Mapping[str, Any]) -> None:
    """Raise InvalidCommand for options of doit that it takes without a word and cannot use."""
    if params["num_process"] < 0:
        raise InvalidCommand(f"-n: expected how many tasks may run at once, 0 or more, got {params['num_process']}")
    outfile = params["outfile"]
    if isinstance(outfile, str):
        try:
            Path(outfile).open("ab").close()
        except OSError as error:
            raise InvalidCommand(f"-o {outfile}: cannot be written to: {error.strerror}") from error


def expand(selection: list[str], tasks: dict[str, Task]) -> list[str]:
    """Replace each group of derivations in `selection`, and each pattern, by the tasks in it; take their options out.

    doit walks a group breadth first: every image would be downloaded before the first is converted. Tasks that are
    selected one by one it takes one by one, so that live intermediates stay within the number of jobs.
    """
    expanded: list[str] = []
    words = list(selection)
    targets = _targets(tasks)
    while words:
        word = words.pop(0)
        task = tasks.get(word)
        after_option = bool(expanded) and expanded[-1].startswith("-")
        if after_option or word.startswith("-"):
            expanded.append(word)
        elif isinstance(task, OptionTask):
            if word in expanded:
                raise InvalidCommand(f"{word} is named twice: give it all its options at once")
            # Read here and not by doit: what the options say is to be remembered, and must exist as a task.
            words = task.init_options(words)
            expanded.append(word)
        elif word == "clone" or (word.startswith("clone:") and "*" in word):
            raise InvalidCommand("a clone is of one image: larder clone:NAME --to PATH")
        elif pushes := _pushes(word, tasks):
            rest = words
            for each in pushes:
                words = each.init_options(list(rest))
                expanded.append(each.name)
        elif word in KINDS and task is not None:
            _require_project(word, task)
            expanded.extend(task.task_dep)
        elif task is None and word in workspace.current().images:
            _require_no_option(word, words)
            expanded.extend(_declared(word))
        elif "*" in word:
            matching = [
                name
                for name, task in tasks.items()
                if fnmatchcase(name, word) and name not in KINDS and task.subtask_of not in _ACTS and name not in _ACTS
            ]
            if not matching:
                raise InvalidCommand(f"no task matches {word!r}; `larder list` shows what there is")
            expanded.extend(matching)
        else:
            word = targets.get(word, word)
            if word not in tasks:
                raise unknown(word, tasks)
            require_options(tasks[word], words)
            expanded.append(word)
    return expanded


def _require_project(kind: str, group: Task) -> None:
    """Raise InvalidCommand where `kind` is asked of the whole catalogue, by a slip: it is many gigabytes."""
    if workspace.current().is_catalogue_from(Path(doit.get_initial_workdir())):
        raise InvalidCommand(
            f"{kind} would be made of all {len(group.task_dep)} images of the catalogue, since this is no project\n"
            f"  hint: name one, such as {kind}:demo, or all as '{kind}:*'; `larder init NAME ...` begins a project"
        )


def _require_no_option(name: str, words: list[str]) -> None:
    """Raise InvalidCommand where an option follows the name of an image, which might have been a task with its own."""
    if words and words[0].startswith("-"):
        options = [word for word in words if word.startswith("-") or word.isdigit()]
        raise InvalidCommand(
            f"{words[0]} stands behind {name}: options stand before the name of an image\n"
            f"  hint: larder {' '.join([*options, name])}"
        )


def _declared(name: str) -> list[str]:
    """Return the tasks that `derive` in images.toml lists for an image."""
    image = workspace.current().images[name]
    if not image.derive:
        possible = ", ".join(f"{kind}:{name}" for kind in DERIVABLE[image.kind])
        raise InvalidCommand(f"images.toml asks for nothing of {name} (derive = []): name one of {possible}")
    return [f"{kind}:{name}" for kind in image.derive]


def require_options(task: Task, words: list[str]) -> None:
    """Raise InvalidCommand where the options that follow a task are not its own; doit would show them as code."""
    if words and words[0].startswith("-"):
        params = [CmdOption(each) for each in (*task.params, *task.creator_params)]
        try:
            Parser(params, anywhere=False).parse_only(words)
        except CmdParseError as error:
            about = task.name if params else "run"
            raise InvalidCommand(f"{task.name}: {error}; `larder help {about}` shows what there is") from None


def wanted(named: dict[str, Task], tasks: dict[str, Task]) -> dict[str, set[str]]:
    """Return the kinds that a run of the tasks `named` works towards, by the name of the image.

    They are what is named, and what other tasks depend on, those of somebody else's dodo.py among them. What a
    derivation is made from is not: its setup tasks are there for it alone.
    """
    found: dict[str, set[str]] = {}
    targets = _targets(tasks)
    seen: set[str] = set()
    todo = list(named)
    while todo:
        name = todo.pop()
        if name in seen or name not in tasks:
            continue
        seen.add(name)
        task = tasks[name]
        todo += [*task.task_dep, *task.calc_dep, *(targets[file] for file in task.file_dep if file in targets)]
        if task.meta and task.meta.get("kind") in KINDS:
            found.setdefault(task.meta["image"], set()).add(task.meta["kind"])
        else:
            todo += task.setup_tasks
    for image, kind in _subjects(named):
        found.setdefault(image.name, set()).add(kind)
    return found


def _targets(tasks: dict[str, Task]) -> dict[str, str]:
    """Return the names of tasks by the files that they make."""
    return {target: name for name, task in tasks.items() for target in task.targets}


def _pushes(word: str, tasks: dict[str, Task]) -> list[OptionTask]:
    """Return the pushes that ``push`` or ``push:PATTERN`` names; the options that follow are for all of them."""
    pattern = "push:*" if word == "push" else word
    if not (pattern.startswith("push:") and "*" in pattern):
        return []
    return [task for task in tasks.values() if isinstance(task, OptionTask) and fnmatchcase(task.name, pattern)]


def _subjects(named: dict[str, Task]) -> Iterator[tuple[Image, str]]:
    """Yield image and kind of each artifact that was named on the command line, or is cloned."""
    for task in named.values():
        if isinstance(task, OptionTask):
            yield from ((task.image, kind) for kind in task.kinds)
        elif task.meta and task.meta.get("kind") in KINDS:
            yield workspace.current().images[task.meta["image"]], task.meta["kind"]


def _remember(named: dict[str, Task]) -> None:
    """Keep what was named on the command line: it is asked for from now on, and in use."""
    for image, kind in _subjects(named):
        entry = workspace.current().session.store.entry(image)
        entry.ask(kind)
        usage.record(entry, kind)


def _tidy(named: dict[str, Task]) -> None:
    """Finish what killed runs left undone in the entries of this run."""
    space = workspace.current()
    names = {name.partition(":")[2] for name in named}
    for image in (image for name, image in space.images.items() if name in names):
        try:
            engine.tidy(image, space.identity(image), space.session)
        except LarderError:
            # Its identity is not known: what is in the entry cannot be judged.
            continue


def _stop_threads() -> bool:
    """Let the threads of doit's runner put down what they are doing, which doit only abandons; say whether they did."""
    workspace.stop()
    workers = [thread for thread in threading.enumerate() if isinstance(thread, _Worker)]
    for worker in workers:
        # That there is nothing more to do; one that waits for its next task would wait for good.
        worker.jobs.put(None)
    deadline = time.monotonic() + _STOP_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    return not any(worker.is_alive() for worker in workers)


class _Worker(MThreadRunner.DaemonThread):  # type: ignore[misc]
    """A thread of doit's runner that can be told that there is nothing more to do."""

    def __init__(self, *, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        super().__init__(target=target, args=args)
        #: Where it gets its tasks from; None ends it.
        self.jobs: SimpleQueue[None] = args[0]
