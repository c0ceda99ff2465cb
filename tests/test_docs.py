"""README and docs/: what they show is what is printed, what they name is there, the site builds without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from recipes.declare.images import COMMANDS
from recipes.kinds import KINDS
from recipes.project import catalogue

from .kit.project import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator


class Step(NamedTuple):
    """A command line of a page, and what it shows of it."""

    command: str
    shown: str


README = REPOSITORY / "README.md"
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
#: What a page may have of the machine, of the file system and of the moment, and what stands for it.
MASKS = (
    (r"file:///\S+", "URL"),
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
_DEBIAN = """[images.debian-12.x86_64]
url = "./debian-12.qcow2"
digest = "sha256:f0861a09d87a179b5088201a960c91476534f7cc6ce69a9b5ca71571f0d3d22b"
"""
#: Pages whose steps are run, with the images.toml that they need.
RUN = {REPOSITORY / "docs" / "project.md": "", REPOSITORY / "docs" / "instances.md": _DEBIAN}
#: What was done before, and is not shown.
BEFORE = {REPOSITORY / "docs" / "instances.md": [Step("larder raw:debian-12 >/dev/null 2>&1", "")]}
#: Images that pages declare, and what stands for any word.
OWN = ("debian", "mine", "noble", "…")


def blocks(page: Path) -> Iterator[list[Step]]:
    """Yield the steps of each console block."""
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", page.read_text()):
        yield [Step(*part.partition("\n")[::2]) for part in re.split(r"(?m)^\$ ", block)[1:]]


def masked(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        for pattern, stands in MASKS:
            line = re.sub(pattern, stands, line)
        if line.strip():
            lines.append(line.strip())
    return lines


def test_the_readme_is_read_to_its_end() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.doit
@pytest.mark.parametrize("page", [README, *RUN], ids=lambda page: page.name)
def test_what_a_page_shows_is_what_is_printed(page: Path, tmp_path: Path) -> None:
    here = tmp_path / "a folder"
    here.mkdir()
    if images := RUN.get(page):
        (here / "debian-12.qcow2").write_bytes((REPOSITORY / "demo" / "demo.qcow2").read_bytes())
        (here / "images.toml").write_text(images)
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LARDER_ARCH": "x86_64",
    }
    steps = [step for block in blocks(page) for step in block]
    for step in (*BEFORE.get(page, ()), *steps):
        command = ["bash", "-c", step.command]
        done = subprocess.run(command, cwd=here, env=environ, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (step, done.stdout, done.stderr)
        printed = (done.stdout + done.stderr).replace(f"{here}/", "")
        assert masked(printed) == masked(step.shown), step.command
    assert steps


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    commands = [step.command for block in blocks(page) for step in block]
    commands += re.findall(r"`((?:larder|doit) [^`]+)`", text)
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```$", text):
        commands += re.findall(r"larder [^|&;>\n]+", block)
    kinds = {*KINDS, "clone", "lima", "pull", "push"}
    words = {*COMMANDS, *kinds, *catalogue.images(), *re.findall(r"task_(\w+)", text), *OWN}
    for command in commands:
        if re.match(r"(larder|doit)\s", command):
            word = next((word for word in re.split(r"[\s;|&]+", command)[1:] if word and word[0] != "-"), "X")
            kind, colon, _ = word.partition(":")
            assert kind in (kinds if colon else words) or word.isupper(), command


def test_links_lead_somewhere() -> None:
    for page in (README, *PAGES):
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), (page.name, link)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs mkdocs-material")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "site" / "commands" / "index.html").exists()
