from __future__ import annotations

from recipes.errors import LarderError, printable


def test_an_error_has_its_hint_below_it() -> None:
    assert str(LarderError("what is wrong")) == "what is wrong"
    assert str(LarderError("what is wrong", hint="what to do")) == "what is wrong\n  hint: what to do"


def test_what_strangers_wrote_moves_no_cursor() -> None:
    assert "\x1b" not in printable("\x1b[31mred")
    assert printable("plain ü") == "plain ü"
