from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.project import Project


@pytest.fixture
def empty(project: Project, tmp_path: Path) -> Path:
    folder = tmp_path / "a new project"
    folder.mkdir()
    return folder


def test_it_begins_with_what_is_named(project: Project, empty: Path) -> None:
    said = project.larder_ok("init", "ubuntu-24.04", "demo", folder=empty)
    assert "larder ubuntu-24.04 " in said
    images = tomllib.loads((empty / "images.toml").read_text())["images"]
    assert list(images) == ["ubuntu-24.04", "demo"]
    assert {"x86_64", "aarch64"} <= set(images["ubuntu-24.04"])
    assert "raw:demo" in project.larder_ok("list", "-q", "--all", folder=empty).split()
    project.larder_ok("raw:demo", "--offline", folder=empty)


def test_or_with_the_demo(project: Project, empty: Path) -> None:
    document = json.loads(project.larder_ok("init", "--json", folder=empty))
    assert document["added"] == ["demo"]
    assert {Path(file).name for file in document["files"]} == {"images.schema.json", "demo.qcow2"}
    assert all(Path(file).is_file() for file in document["files"])


def test_nothing_is_overwritten(project: Project, empty: Path) -> None:
    (empty / "images.toml").write_text("# mine\n")
    result = project.larder("init", folder=empty)
    assert result.status == 1
    assert "is there already" in result.err
    assert [path.name for path in empty.iterdir()] == ["images.toml"]
    assert (empty / "images.toml").read_text() == "# mine\n"


def test_nothing_is_begun_with_what_there_is_not(project: Project, empty: Path) -> None:
    result = project.larder("init", "debain-12", folder=empty)
    assert result.status == 3
    assert "did you mean debian-12?" in result.err
    assert not list(empty.iterdir())


def test_editors_check_it(project: Project, empty: Path) -> None:
    tombi = Path(sys.executable).parent / "tombi"
    if not tombi.exists():
        pytest.skip("tombi is not installed")
    project.larder_ok("init", "debian-13", folder=empty)
    lint = [str(tombi), "lint", "--offline", "images.toml"]
    assert subprocess.run(lint, cwd=empty, capture_output=True, check=False).returncode == 0
    file = empty / "images.toml"
    file.write_text(file.read_text().replace("title =", "tilte ="))
    assert subprocess.run(lint, cwd=empty, capture_output=True, check=False).returncode != 0
