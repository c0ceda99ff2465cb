from __future__ import annotations

from pathlib import Path

from recipes import roots


def test_projects_are_remembered(tmp_path: Path) -> None:
    assert roots.registered(tmp_path) == {}
    for name in ("one", "two", "one"):
        roots.register(tmp_path, tmp_path / name / "images.toml")
    assert sorted(roots.registered(tmp_path).values()) == [
        tmp_path / "one" / "images.toml",
        tmp_path / "two" / "images.toml",
    ]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9" / "images.toml"
    roots.register(tmp_path, path)
    assert list(roots.registered(tmp_path).values()) == [path]


def test_a_cache_that_cannot_be_written_to() -> None:
    roots.register(Path("/proc"), Path("/images.toml"))
    assert roots.registered(Path("/proc")) == {}
