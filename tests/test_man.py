"""larder(1) and images.toml(5): what man(1) makes of them, and that nothing of the commands and keys is left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from man import pages, roff
from recipes.graph.commands import manual
from recipes.kinds import KINDS

from .kit.oracles import need
from .kit.project import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("man1/larder.1", "man5/images.toml.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    pages.write(folder)
    return folder


def read(page: Path, columns: int = 78) -> str:
    """Return what a person reads, without a word on how it looks."""
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", str(page)],
        env={**os.environ, "MANWIDTH": str(columns), "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_it_is_clean(name: str, folder: Path) -> None:
    """Groff and mandoc have nothing to say against it."""
    # Other systems' man(1) has no --warnings.
    need("mandb")
    need("mandoc")
    lint = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", str(folder / name)], capture_output=True, text=True, check=False
    )
    assert (lint.returncode, lint.stdout) == (0, "")
    text = read(folder / name)
    for mark in ("`", "**", "](", "\\f"):
        prose = [line for line in text.splitlines() if not re.match(r" {11,}", line)]
        assert not [line for line in prose if mark in line], "Markdown, or roff, is left"


def test_every_command_option_and_kind_is_there() -> None:
    text = pages.pages()[NAMES[0]]
    for name, command in pages.commands().items():
        assert f"larder {name}" in text or name in manual.OF_DOIT
        if name in manual.OF_DOIT:
            continue
        for option in command.cmdparser.options:
            if option.long:
                assert f"\\-\\-{roff.escaped(option.long, {'-': chr(92) + '-'})}" in text, (name, option.long)
    for kind in (*KINDS, *manual.acts()):
        assert re.search(rf"(?<![a-z]){kind}:IMAGE\b", text), kind


def test_every_value_has_a_name() -> None:
    assert not re.findall(r".*\bARG\b.*", pages.pages()[NAMES[0]])


def test_every_variable_is_there() -> None:
    """What the environment may say, as the sources ask for it."""
    asked = set()
    for path in (REPOSITORY / "recipes").rglob("*.py"):
        asked |= set(re.findall(r'"(LARDER_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    assert len(asked) >= 6
    text = pages.pages()[NAMES[0]]
    assert not [name for name in asked if not re.search(rf"\\fB{name}(=1)?\\fR", text)]


def test_every_key_is_there() -> None:
    schema = json.loads((REPOSITORY / "schema" / "images.schema.json").read_text())
    tables = schema["properties"]
    image = tables["images"]["patternProperties"]["."]
    keys = [*tables["cache"]["properties"], *image["properties"], *schema["definitions"]["source"]["properties"]]
    assert len(keys) > 15
    text = pages.pages()[NAMES[1]]
    assert not [key for key in keys if roff.bold(key) not in text]


def test_the_same_day_gives_the_same_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert '"1970-01-02"' in pages.pages()[NAMES[0]]


def test_the_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "man", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert [str(tmp_path / name) for name in NAMES] == done.stdout.splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One `--option`, *so*, **there**.", ".PP\nOne \\fB\\-\\-option\\fR, \\fIso\\fR, \\fBthere\\fR.\n"),
        ("(release-*/disk.img); `*` stands", ".PP\n(release-*/disk.img); \\fB*\\fR stands\n"),
        ("A [page](cache.md), a [site](https://example.org/).", ".PP\nA page, a site (https://example.org/).\n"),
        ("# A\n\n## B\n\ntext", '.SS "A"\n.SS "B"\ntext\n'),
        ("* one\n  and\n* two\n\n1. first", ".IP \\(bu 4\none and\n.IP \\(bu 4\ntwo\n.IP 1. 4\nfirst\n"),
        ("| a | b |\n| --- | --- |\n| `x\\|y` | z |", ".TP\n\\fBx|y\\fR\nz\n"),
        ("```sh\n.begin 'x' ~\\\n\nend\n```", ".PP\n.RS 4\n.nf\n\\&.begin \\(aqx\\(aq \\(ti\\e\n\\&\nend\n.fi\n.RE\n"),
        (".x\n\n…", ".PP\n\\&.x\n.PP\n\\[u2026]\n"),
        ("<!-- not run: why -->\n\ntext", ".PP\ntext\n"),
    ],
)
def test_markdown(text: str, expected: str) -> None:
    assert roff.finished(roff.markdown(text)) == expected


def test_what_is_no_heading_of_a_page() -> None:
    assert roff.section("# A\n\n## B\ntext\n\n## C\n", "B") == "text\n\n"
    with pytest.raises(LookupError, match="'D'"):
        roff.section("## B\n", "D")


def test_what_the_build_imports_is_what_it_asks_for() -> None:
    """Of what larder needs the build has doit only (pyproject.toml, build-system)."""
    code = (
        "import sys\n"
        "from man import pages\n"
        "pages.pages()\n"
        "ours = {'recipes', 'man', 'doit', '__main__', '__mp_main__'}\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - ours))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    # What setuptools puts into every process by a .pth file.
    assert set(json.loads(done.stdout.replace("'", '"'))) <= {"_distutils_hack"}
