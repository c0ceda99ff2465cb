"""The pages of the documentation: their console blocks, and what of them may differ from machine to machine."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from .project import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

README = REPOSITORY / "README.md"
#: Those of the site.
SITE = sorted((REPOSITORY / "docs").rglob("*.md"))
#: All that people read.
PAGES = (
    README,
    *SITE,
    *(REPOSITORY / name for name in ("CONTRIBUTING.md", "SECURITY.md", "bench/README.md", "examples/README.md")),
)

_BLOCK = re.compile(r"(?ms)(?:^<!-- (?P<word>not run|first): (?P<said>[^\n]+) -->\n+)?^```console\n(?P<text>.*?)^```$")
_STEP = re.compile(r"(?m)^\$ ")
#: What a page may have of the machine, of the file system and of the moment, and what stands for it.
_MASKS = (
    (r"file:///\S+", "URL"),
    (r"(?:127\.0\.0\.1:\d+|ghcr\.io)(?=/)", "HOST"),
    (r"\b[0-9a-f]{8,}(?:…|\b)", "HEX"),
    (r"(?:/[\w.@-]+)+/(?=(?:disk|images|vm)\b)", ""),
    (r"\bvm/", ""),
    (r"(?<= in )/\S+?(?=;|$)", "CACHE"),
    (r"\b(?:reflink|hardlink|copy)\b", "METHOD"),
    (r"\d+(?:\.\d+)? (?:B|[KMGT]iB)", "SIZE"),
    (r"\?", "SIZE"),
    (r"\d+(?:\.\d+)? (?:s|min \d+ s|h \d+ min|d \d+ h)\b", "TIME"),
    (r"@@.*@@", "@@"),
    (r" +", " "),
)


class Step(NamedTuple):
    """A command line of a page, and what the page shows of it."""

    command: str
    shown: str


class Block(NamedTuple):
    """A console block."""

    text: str
    #: Why it cannot be run, where it cannot.
    reason: str | None
    #: What is run before it, and not shown.
    first: str | None

    @property
    def steps(self) -> list[Step]:
        """Return the commands, which stand behind a ``$``, each with what follows it."""
        return [Step(*part.partition("\n")[::2]) for part in _STEP.split(self.text)[1:]]


def blocks(page: Path) -> Iterator[Block]:
    """Yield the console blocks of a page.

    One that no test can run says why in a comment before it, ``<!-- not run: it asks the internet -->``, and one that
    begins where others are says how to come there: ``<!-- first: rm -r ~/.cache/larder -->``.
    """
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        said = {match["word"]: match["said"]}
        yield Block(match["text"], said.get("not run"), said.get("first"))


def steps(page: Path) -> list[Step]:
    """Return what is to be run of a page, in its order."""
    found: list[Step] = []
    for block in blocks(page):
        if block.reason is None:
            found += [Step(block.first, "")] if block.first else []
            found += block.steps
    return found


def masked(text: str) -> list[str]:
    """Return the lines of `text` that say something, without what may differ."""
    lines = []
    for line in text.splitlines():
        for pattern, stands in _MASKS:
            line = re.sub(pattern, stands, line)
        if line.strip():
            lines.append(line.strip())
    return lines


def play(page: Path, folder: Path, environ: Mapping[str, str]) -> None:
    """Run the steps of a page one after the other in `folder`, as a shell does, and hold what each prints against it.

    A step may fail if the page says so: by an ``echo $?`` as the next one.
    """
    status, unsaid = 0, ""
    for step in steps(page):
        if step.command != "echo $?":
            assert not status, f"`{unsaid}` exits with {status}, and {page.name} does not say so"
        command = ["bash", "-c", f"(exit {status}); {step.command}"]
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        printed = done.stdout.replace(f"{folder}/", "")
        assert masked(printed) == masked(step.shown), f"{page.name}: $ {step.command}\n{printed}"
        status, unsaid = done.returncode, step.command
    assert not status, f"`{unsaid}` exits with {status}, and {page.name} does not say so"
