"""Tables put in and taken out: what is not touched stays as it is, to the byte."""

from __future__ import annotations

import tomllib

import pytest

from recipes.declare import blocks
from recipes.errors import DeclarationError
from recipes.settings import catalogue

TEXT = """\
# About the file.

[cache]
registry = "h/p"   # ours

# ---- Ubuntu ----

[images."a.1"]
title = "A"   # the first
[images."a.1".x86_64]
url = "./a.img"
digest = '''
sha256:00'''
# keyring = "keys/a.gpg"

# The second.
[images.b.x86_64]
url = ["./b.img",
  "./c.img"]  # two


[mirrors]
"x" = ["y"]
"""


def test_of_an_image() -> None:
    assert blocks.of(TEXT, "a.1") == TEXT[TEXT.index('[images."a.1"]') : TEXT.index("\n# The second")]
    assert blocks.of(TEXT, "b") == TEXT[TEXT.index("# The second") : TEXT.index("\n\n[mirrors]")]
    with pytest.raises(KeyError):
        blocks.of(TEXT, "c")


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_is_taken_out_leaves_the_rest(line_end: str) -> None:
    text = TEXT.replace("\n", line_end)
    block = blocks.of(text, "a.1")
    assert blocks.without(text, "a.1") == text.replace(block + line_end, "")
    block = blocks.of(text, "b")
    assert blocks.without(text, "b") == text.replace(block + 2 * line_end, "")


def test_the_last_one_takes_the_blank_lines_before_it_along() -> None:
    text = TEXT[: TEXT.index("\n\n[mirrors]")]
    assert blocks.without(text, "b") == TEXT[: TEXT.index("\n# The second")]


def test_what_is_put_in_comes_last() -> None:
    block = "[images.c.x86_64]\nurl = 'x'\n"
    assert blocks.added(TEXT, block, "c") == f"{TEXT}\n{block}"
    assert blocks.added(TEXT.rstrip("\n"), block, "c") == f"{TEXT}\n{block}"
    assert blocks.added(f"{TEXT}\n", block, "c") == f"{TEXT}\n{block}"
    assert blocks.added("", block, "c") == block
    crlf = TEXT.replace("\n", "\r\n")
    assert blocks.added(crlf, block, "c") == f"{TEXT}\n{block}".replace("\n", "\r\n")


def test_another_architecture_comes_after_those_that_are_there() -> None:
    block = '[images."a.1".aarch64]\nurl = "./a2.img"\n'
    after = blocks.added(TEXT, block, "a.1")
    assert after.replace(block, "") == TEXT
    assert after.index(block) == TEXT.index("\n# The second")


@pytest.mark.parametrize(
    "text",
    [
        'images.a.x86_64.url = "./a"\n',
        '[images]\na = { x86_64 = { url = "./a" } }\nb.x86_64.url = "./b"\n',
    ],
)
def test_what_is_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(DeclarationError, match="not declared by tables of its own"):
        blocks.without(text, "a")


def test_what_stands_at_the_top_is_about_the_file() -> None:
    text = '#:schema ./images.schema.json\n[images.a.x86_64]\nurl = "./a"\n\n[images.b.x86_64]\nurl = "./b"\n'
    assert blocks.without(text, "a") == '#:schema ./images.schema.json\n[images.b.x86_64]\nurl = "./b"\n'
    assert blocks.of(text, "a") == '[images.a.x86_64]\nurl = "./a"\n'


def test_every_image_of_the_catalogue_can_be_copied_and_taken_out() -> None:
    text = catalogue().read_text(encoding="utf-8")
    images = tomllib.loads(text)["images"]
    copied = ""
    for name in images:
        block = blocks.of(text, name)
        assert tomllib.loads(block)["images"] == {name: images[name]}
        copied = blocks.added(copied, block, name)
        rest = tomllib.loads(blocks.without(text, name))["images"]
        assert rest == {other: image for other, image in images.items() if other != name}
    assert tomllib.loads(copied)["images"] == images
