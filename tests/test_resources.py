from __future__ import annotations

from pathlib import Path

import pytest

from recipes import resources


@pytest.mark.parametrize("name", ["images.toml", "schema/images.schema.json"])
def test_what_comes_with_a_checkout_is_found(name: str) -> None:
    assert resources.find(name) == Path(__file__).parents[1] / name


def test_what_is_in_the_package_counts_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "recipes"
    package.mkdir()
    for folder in (package, tmp_path):
        (folder / "images.toml").touch()
    monkeypatch.setattr(resources, "__file__", str(package / "resources.py"))
    assert resources.find("images.toml") == package / "images.toml"
