"""The pages of `larder help`."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from doit.cmdparse import CmdOption

from recipes.graph.commands import manual
from recipes.kinds import KINDS

WIDTH = 110


@pytest.mark.parametrize("word", [*KINDS, "clone", "lima", "push", "pull", "resolve"])
def test_each_kind_and_act_has_a_page(word: str) -> None:
    page = manual.of_word(word, "larder")
    assert page
    assert page.startswith(f"larder {word}:IMAGE")
    assert not re.search(r"\{(path|image|reference)\}", page)
    assert max(map(len, page.splitlines())) <= 120


def test_nothing_else_has() -> None:
    assert manual.of_word("status", "larder") is None


def test_the_screen_leaves_out_what_is_for_authors_of_a_dodo() -> None:
    commands = {name: SimpleNamespace(doc_purpose=f"do {name}") for name in ("strace", "status", "run", "other")}
    screen = manual.screen(commands, "1.2")
    assert "larder 1.2:" in screen
    assert screen.index("  status ") < screen.index("  other ")
    assert "strace" not in screen


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"name": "a", "long": "aa", "default": "x", "help": "what it is"}, "what it is (default: x)"),
        ({"name": "a", "long": "aa", "default": "x", "help": "it [default: %(default)s]"}, "it [default: x]"),
        ({"name": "a", "long": "aa", "default": False, "type": bool, "help": "what it is"}, "what it is"),
        ({"name": "a", "long": "aa", "default": [], "type": list, "help": "what it is"}, "what it is"),
        ({"name": "a", "long": "aa", "default": open, "help": "what it is"}, "what it is"),
        ({"name": "dep_file", "long": "aa", "default": ".doit.db", "help": "?"}, "(default: doit.db in the cache)"),
        (
            {"name": "a", "long": "aa", "default": "", "help": "what it is", "choices": [("b", ""), ("c", "")]},
            "what it is: b or c",
        ),
    ],
)
def test_defaults_are_shown_where_they_say_something(option: dict[str, object], said: str) -> None:
    lines = manual.options([CmdOption(option)], mine="x")
    assert lines[:2] == ["", "Options"]
    shown = " ".join(" ".join(lines[2:]).split()).removeprefix("--aa").removeprefix("=ARG").lstrip()
    assert shown.endswith(said) if said.startswith("(") else shown == said


def test_options_that_no_command_line_has_are_left_out() -> None:
    assert manual.options([CmdOption({"name": "codec_cls", "default": "json"})], mine="x") == []
