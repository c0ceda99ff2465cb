"""Words that name nothing, and what they may have been meant to be."""

from __future__ import annotations

import pytest

from tests.kit.project import OWN_DODO, Project, Result, disk


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("raw:aaa",), "did you mean raw:aaaa?"),
        (("stauts",), "did you mean status?"),
        (("vhdz:aaaa",), "there is no kind vhdz; did you mean vhd"),
        (("aaaaa",), "did you mean aaaa?"),
        (("lima:aaaa", "--temlate"), "there is no option --temlate; did you mean --template?"),
        (("clone:aaaa", "--siez", "1"), "there is no option --siez; did you mean --size?"),
        (
            ("aaaa", "-n", "4", "-c"),
            "-n stands behind aaaa: options stand before the name of an image\n  hint: larder -n 4 -c aaaa",
        ),
        (("status", "--jsno"), "there is no option --jsno; did you mean --json?"),
        (("raw:aaaa", "--alwys-execute"), "there is no option --alwys-execute"),
        (("-n", "x", "raw:aaaa"), "-n: expected a whole number, got 'x'"),
        (("clone:aaaa", "--to", "x", "--mode", "relfink"), "relfink"),
        (("info", "raw:aaa"), "did you mean raw:aaaa?"),
        (("forget", "raw:aaa"), "did you mean raw:aaaa?"),
        (("ignore", "raw:aaa"), "did you mean raw:aaaa?"),
        (("clean", "raw:aaa"), "did you mean raw:aaaa?"),
        (("list", "raw:aaa"), "did you mean raw:aaaa?"),
        (("strace", "raw:aaa"), "did you mean raw:aaaa?"),
        (("path", "raw:aaa"), "did you mean raw:aaaa?"),
        (("plan", "aaaaa"), "did you mean aaaa?"),
        (("status", "aaaaa"), "did you mean aaaa?"),
        (("verify", "aaaaa"), "did you mean aaaa?"),
        (("help", "stauts"), "did you mean status?"),
        (("help", "raw:aaa"), "did you mean raw:aaaa?"),
    ],
)
def test_typos_are_answered(words: tuple[str, ...], said: str, bare: Project) -> None:
    bare.declare("aaaa", disk("a"))
    for result in (bare.larder(*words), _in_doit(bare, *words)):
        assert result.status == 3
        assert said in result.err
        assert "CmdOption" not in result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize("words", [("raw:debian-12",), ("debian-12",), ("status", "debian-12"), ("plan", "debian-12")])
def test_what_the_catalogue_has_can_be_added(words: tuple[str, ...], bare: Project) -> None:
    result = bare.larder(*words)
    assert result.status == 3
    assert "the catalogue has it: `larder add debian-12`" in result.err


def _in_doit(bare: Project, *words: str) -> Result:
    (bare.folder / "dodo.py").write_text(OWN_DODO.partition("\n\n\n")[0])
    return bare.doit(*words)
