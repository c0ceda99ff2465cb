from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import doit
import pytest
from doit import doit_cmd
from doit.cmdparse import CmdOption
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidCommand

from recipes.errors import LarderError
from recipes.graph import arguments
from recipes.graph.run import Run, require_usable
from recipes.graph.tasks.clone import PARAMS, destination

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project

OPTIONS = [CmdOption(each) for each in (*PARAMS, *Run.cmd_options)]


def left_of(*typed: str) -> list[str]:
    """Return what reaches a command of doit, without its name."""
    words: list[str] = DoitMain(config_filenames=()).process_args(typed)
    return words[1:] if words[0] == "run" else words


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("clone:x", "--to", "run=5/d.raw", "--force"), ["clone:x", "--to", "run=5/d.raw", "--force"]),
        (("run", "clone:x", "--to", "a=b", "--to", "c=d"), ["clone:x", "--to", "a=b", "--to", "c=d"]),
        (("run", "-n", "2", "-o", "a=b", "raw:x"), ["-n", "2", "-o", "a=b", "raw:x"]),
        # getopt takes the beginning of an option for it.
        (("clone:x", "--siz", "a=b"), ["clone:x", "--siz", "a=b"]),
        (("clone:x", "--force", "a=b", "--to=c=d", "e=f"), ["clone:x", "--force", "--to=c=d"]),
        (("a=b", "run", "c=d", "raw:x", "e=f"), ["raw:x"]),
    ],
)
def test_the_value_of_an_option_is_no_variable(typed: tuple[str, ...], expected: list[str]) -> None:
    assert arguments.restored(left_of(*typed), typed, OPTIONS) == expected


def test_arguments_from_elsewhere_stay() -> None:
    left = left_of("clone:x", "--to", "a=b")
    assert arguments.restored(left, ["pytest", "--to", "c=d"], OPTIONS) == left == ["clone:x", "--to"]


def test_a_variable_that_nothing_asks_for_is_refused() -> None:
    left_of("raw:x", "mode=copy")
    arguments.watch()
    with pytest.raises(InvalidCommand, match="'mode=copy' is neither a task nor an option"):
        arguments.require_asked()


def test_a_variable_that_a_dodo_asks_for_is_its_own() -> None:
    left_of("raw:x", "release=13")
    arguments.watch()
    assert doit.get_var("release", "12") == "13"
    assert doit.get_var("other", "none") == "none"
    arguments.require_asked()


def test_what_was_taken_back_is_no_variable_any_more() -> None:
    typed = ["clone:x", "--to", "run=5/d.raw"]
    arguments.restored(left_of(*typed), typed, OPTIONS)
    assert doit_cmd._CMDLINE_VARS == {}


def test_a_clone_goes_where_it_is_said(project: Project) -> None:
    project.declare("x", b"\x55" * 4096)
    (project.folder / "run=5").mkdir()
    project.ok("clone:x", "--format", "fetch", "--to", "run=5/d.img", "--force")
    assert (project.folder / "run=5" / "d.img").stat().st_size == 4096
    assert not (project.folder / "--force").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "expected the path of a file, got an empty word"),
        ("--force", "expected the path of a file, got the option --force"),
        ("~no-such-user/d.raw", "there is no user called no-such-user"),
    ],
)
def test_where_no_clone_can_go(word: str, message: str) -> None:
    with pytest.raises(LarderError, match=message):
        destination(word)


def test_fewer_tasks_at_once_than_none() -> None:
    with pytest.raises(InvalidCommand, match="-n: expected how many tasks may run at once, 0 or more, got -1"):
        require_usable({"num_process": -1, "outfile": sys.stdout})


def test_an_output_file_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidCommand, match="cannot be written to: No such file or directory"):
        require_usable({"num_process": 0, "outfile": str(tmp_path / "none" / "out")})
