from __future__ import annotations

import json
from typing import TYPE_CHECKING

from recipes.project import catalogue

if TYPE_CHECKING:
    from tests.kit.project import Project


def test_words_narrow_it_down(project: Project) -> None:
    said = project.larder_ok("search", "Fedora", "wsl")
    assert "fedora-44-wsl" in said
    assert "ubuntu" not in said
    assert len(project.larder_ok("search").splitlines()) == len(catalogue.images()) + 1


def test_for_scripts(project: Project) -> None:
    (entry,) = json.loads(project.larder_ok("search", "demo", "--json"))["images"]
    assert entry["name"] == "demo"
    assert {"x86_64", "aarch64"} <= set(entry["arches"])


def test_nothing(project: Project) -> None:
    result = project.larder("search", "no-such-word")
    assert (result.status, result.out) == (1, "the catalogue has nothing with no-such-word\n")
