"""How options are read, and what is said of those that are none."""

from __future__ import annotations

import pytest
from doit.cmdparse import CmdOption, CmdParseError

from recipes.graph.commands.spoken import Parser, plain

OPTIONS = [
    CmdOption({"name": "json", "long": "json", "type": bool, "default": False, "inverse": "no-json"}),
    CmdOption({"name": "jobs", "short": "j", "long": "jobs", "type": int, "default": 1}),
    CmdOption({"name": "to", "long": "to", "type": list, "default": []}),
    CmdOption({"name": "mode", "long": "mode", "default": "auto", "choices": [("auto", ""), ("copy", "")]}),
]


def test_options_may_stand_anywhere() -> None:
    params, rest = Parser(OPTIONS, anywhere=True).parse(["a", "--to", "x", "b", "--to=y", "-j2", "--json"])
    assert rest == ["a", "b"]
    assert params == {"json": True, "jobs": 2, "to": ["x", "y"], "mode": "auto"}
    # A list is not the option's own: the next command line begins with none.
    assert Parser(OPTIONS, anywhere=True).parse([])[0]["to"] == []


def test_or_before_names_only() -> None:
    params, rest = Parser(OPTIONS, anywhere=False).parse(["--no-json", "a", "--json"])
    assert rest == ["a", "--json"]
    assert params["json"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jsn"], "there is no option --jsn; did you mean --json?"),
        (["-x"], "there is no option -x"),
        (["--jobs", "many"], "--jobs: expected a whole number, got 'many'"),
        (["-j"], "option -j requires argument"),
        (["--mode", "cpoy"], "--mode: expected auto or copy, got 'cpoy'; did you mean copy?"),
    ],
)
def test_what_is_wrong_is_said_in_words(words: list[str], said: str) -> None:
    with pytest.raises(CmdParseError) as caught:
        Parser(OPTIONS, anywhere=True).parse(words)
    assert str(caught.value) == said


def test_of_doits_own_message() -> None:
    error = CmdParseError(
        "Error parsing Task: option --jsn not recognized (parsing options: [CmdOption({'name':'a'})]). Got: ['--jsn']"
    )
    assert plain(error, OPTIONS) == "there is no option --jsn; did you mean --json?"
