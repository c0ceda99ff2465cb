"""The CI examples: their commands run, and what they take from `larder keys` is there."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from recipes.formats.io.sparse import allocated

from .kit.project import DOIT, MiB, Project, disk

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[1] / "examples"
GITHUB = EXAMPLES / "github" / "larder.yml"
GITLAB = EXAMPLES / "gitlab" / ".gitlab-ci.yml"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that has what the examples name, with the cache where they want it."""
    project = Project(tmp_path)
    (project.folder / "dodo.py").unlink()
    project.declare("debian-12", gzip.compress(disk("a")), "a.raw.gz")
    project.cache = project.folder / ".larder"
    project.environ["LARDER_CACHE"] = str(project.cache)
    project.environ["PATH"] = f"{DOIT.parent}:{project.environ['PATH']}"
    return project


def run(project: Project, script: str, **environ: str) -> None:
    """Run `script` as a runner does."""
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=project.folder,
        env={**project.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def github_steps() -> Iterator[tuple[str, str]]:
    """Yield name and script of each step that has both."""
    for name, _, block, line in re.findall(
        r"^      - name: (\S+)\n((?:        (?!run:).*\n)*)        run: (?:\|\n((?:          .*\n)+)|(.+)\n)",
        GITHUB.read_text(),
        re.MULTILINE,
    ):
        yield name, textwrap.dedent(block) or line


def gitlab_script(job: str) -> str:
    """Return the script of `job`."""
    found = re.search(rf"^{job}:\n(?:  .*\n)*?  script:\n((?:    - .*\n)+)", GITLAB.read_text(), re.MULTILINE)
    assert found
    return re.sub(r"^    - ", "", found[1], flags=re.MULTILINE)


def keep(project: Project, paths: list[Path]) -> None:
    """Leave of the cache what a CI system restores: the bytes of `paths`."""
    stored = {path: path.read_bytes() for path in paths}
    shutil.rmtree(project.cache)
    for path, data in stored.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def assert_used(project: Project) -> None:
    """Hold the result of an example's last job against the image."""
    assert (project.folder / "disk.raw").read_bytes() == disk("a")
    assert allocated(project.folder / "disk.raw") < MiB


def test_github(project: Project) -> None:
    steps = dict(github_steps())
    assert list(steps) == ["install", "keys", "prewarm", "test"]
    output = project.folder / "output"
    run(project, steps["keys"], GITHUB_OUTPUT=str(output))
    name, document = re.fullmatch(r"(\w+)<<END\n(.*)\nEND\n", output.read_text(), re.DOTALL).groups()  # type: ignore[union-attr]
    assert name == "keys"
    artifacts: list[dict[str, Any]] = json.loads(document)["artifacts"]
    used = set(re.findall(r"\$\{\{ matrix\.(\w+)", GITHUB.read_text()))
    assert used == {"key", "paths", "task", "image"}
    for each in artifacts:
        assert used <= set(each)
        assert len(each["paths"]) == 2
        run(project, steps["prewarm"], TASK=each["task"])
    keep(project, [Path(path) for each in artifacts for path in each["paths"]])
    shutil.rmtree(project.upstream)
    for each in artifacts:
        run(project, steps["test"], IMAGE=each["image"])
    assert_used(project)


def test_github_jobs_have_the_same_environment() -> None:
    text = GITHUB.read_text()
    assert text.count("- name: install\n") == text.count("    runs-on: ubuntu-24.04\n") == 3
    assert re.findall(r"^  (\w+):\n    (?:needs|runs-on)", text, re.MULTILINE) == ["keys", "prewarm", "test"]


def test_gitlab(project: Project) -> None:
    run(project, gitlab_script("prewarm"))
    patterns = re.findall(r"^      - (\.larder/.*)$", GITLAB.read_text(), re.MULTILINE)
    paths = [path for pattern in patterns for path in project.folder.glob(pattern)]
    assert {path.name for path in paths} == {"wrapper", "fetch.json"}
    keep(project, paths)
    shutil.rmtree(project.upstream)
    run(project, gitlab_script("test"))
    assert_used(project)


@pytest.mark.parametrize("path", [GITHUB, GITLAB], ids=lambda path: path.parent.name)
def test_no_command_has_text_of_the_service_put_into_it(path: Path) -> None:
    commands = [script for _, script in github_steps()] if path == GITHUB else [gitlab_script("test")]
    assert commands
    assert not [command for command in commands if "${{" in command]
