"""What a person sees of a run: a line per task, progress, and errors in their own words."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from doit.reporter import ConsoleReporter

from recipes.console import console
from recipes.kinds import KINDS
from recipes.project import workspace
from recipes.redact import shown
from recipes.units import format_duration, format_size

if TYPE_CHECKING:
    from recipes.console import Console


#: Tasks that are not worth a line: they take no time, or tell themselves what they do.
_QUIET = ("resolve:", "pull:")


class Reporter(ConsoleReporter):  # type: ignore[misc]
    """doit's console, with progress, results and errors in a person's words."""

    desc = "console output with progress"

    def initialize(self, tasks: dict[str, Any], selected_tasks: list[str]) -> None:
        """Start watching the work of this run."""
        space = workspace.current()
        self._console: Console = console(self.outstream, space.stop)
        space.session.progress = self._console
        self._began = time.monotonic()
        #: What became of the derivations of this run: the images of each.
        self._outcomes: dict[str, list[str]] = {"made": [], "current": [], "failed": []}

    def write(self, text: str) -> None:
        """Write a line, above the bars where there are any."""
        self._console.write(text)

    def execute_task(self, task: Any) -> None:
        """Say that a task begins."""
        if task.meta and task.meta.get("kind") == "fetch":
            space = workspace.current()
            identity = space.identity(space.images[task.meta["image"]])
            size = f"{format_size(identity.size)} from " if identity.size is not None else ""
            self.write(f".  {task.name}  {size}{shown(identity.urls[0])}\n")
        elif not task.name.startswith(_QUIET) and not (task.options or {}).get("template"):
            # What prints a template prints nothing else.
            super().execute_task(task)

    def skip_uptodate(self, task: Any) -> None:
        """Say that there is nothing to do for a task."""
        if not task.name.startswith(_QUIET):
            super().skip_uptodate(task)
        self._count("current", task)

    def add_success(self, task: Any) -> None:
        """Say what a derivation made."""
        # Without a key it was an input that nobody lacked any more.
        if not task.meta or task.meta.get("kind") not in KINDS or not task.values.get("key"):
            return
        space = workspace.current()
        receipt = space.session.store.entry(space.images[task.meta["image"]]).receipt(task.meta["kind"])
        if receipt is not None:
            artifact = receipt.artifact
            took = receipt.durations.get(receipt.kind)
            parts = [format_size(artifact.size)]
            if KINDS[receipt.kind].is_sparse:
                parts.append(f"{format_size(artifact.allocated)} on disk")
            if took:
                parts.append(f"in {format_duration(took)}")
            self.write(f"   {task.name}: {', '.join(parts)}\n")
            self._count("made", task)

    def add_failure(self, task: Any, fail: Any) -> None:
        """Say what failed."""
        super().add_failure(task, fail)
        self._count("failed", task)

    def _count(self, outcome: str, task: Any) -> None:
        if task.meta and task.meta.get("kind") in KINDS:
            self._outcomes[outcome].append(task.meta["image"])

    def _summary(self) -> str:
        """Return what became of several images, nothing of one."""
        images = set().union(*self._outcomes.values())
        if len(images) < 2:
            return ""
        told = [f"{len(each)} {outcome}" for outcome, each in self._outcomes.items() if each]
        return f"{len(images)} images: {', '.join(told)}, in {format_duration(time.monotonic() - self._began)}\n"

    def complete_run(self) -> None:
        """Stop watching."""
        self._console.close()
        if summary := self._summary():
            self.write(summary)
        # Failures were told when they happened. doit tells them again with each task's captured output; ours have none.
        if self.runtime_errors:
            super().complete_run()

    def _write_failure(self, result: dict[str, Any], write_exception: bool = True) -> None:
        task, failure = result["task"], result["exception"]
        if failure.get_name() == "TaskFailed":
            # Work says itself which piece of it failed; that may be the input of this task.
            said = failure.message.startswith(f"{task.name}: ")
            # What begins with an underscore is nobody's to name; its message says which list it is about.
            label = "" if said or task.name.startswith("_") else f"{task.name}: "
            self.write(f"{label}{failure.message}\n")
        else:
            super()._write_failure(result, write_exception)
