"""Why an artifact would be made: each answer, from what is in the cache."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from recipes.project import why
from tests.kit.project import disk, sha256
from tests.kit.spaces import ask, build, opened

if TYPE_CHECKING:
    import pytest

    from tests.kit.project import Project


def test_each_reason(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    old = gzip.compress(disk("old"), mtime=0)
    project.declare("a", old, "a.raw.gz")
    project.declare("twin", old, "twin.raw.gz")
    space = opened(project, monkeypatch)
    image = space.images["a"]

    def reason(kind: str = "raw") -> str:
        return why.answer(space, kind, image).text

    assert reason() == "would run: it is not in the cache"
    build(space, "fetch", "twin")
    build(space, "content", "twin")
    receipt = ask(space, "raw", "twin")
    assert reason() == "would be taken from twin, which has the same bytes"
    build(space, "fetch", "a")
    build(space, "content", "a")
    receipt = ask(space, "raw", "a")
    assert why.answer(space, "raw", image) == (f"up to date, made {receipt.made}", True)
    (project.entry("a") / "disk.raw").touch()
    project.cache.joinpath("images", "twin", "x86_64", "raw.json").unlink()
    space = opened(project, monkeypatch)
    assert reason() == "would be looked at: its file has another size or time than its receipt says"


def test_what_is_stale(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare("a", disk("old"))
    space = opened(project, monkeypatch)
    build(space, "fetch", "a")
    build(space, "content", "a")
    ask(space, "raw", "a")
    project.declare("a", disk("new"))
    space = opened(project, monkeypatch)
    said = why.answer(space, "raw", space.images["a"]).text
    assert said == f"would run: upstream has {sha256(disk('new'))}, and this was made from {sha256(disk('old'))}"
    project.declare("a", disk("old"))
    path = project.entry("a") / "raw.json"
    path.write_text(path.read_text().replace('"recipe": "raw/', '"recipe": "raw/0').replace('"key": "', '"key": "0'))
    space = opened(project, monkeypatch)
    assert "it was made as raw/0" in why.answer(space, "raw", space.images["a"]).text


def test_a_download_that_was_begun(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.declare("a", disk("a"))
    project.entry("a").mkdir(parents=True)
    (project.entry("a") / "wrapper.part").write_bytes(bytes(2048))
    space = opened(project, monkeypatch)
    assert why.answer(space, "fetch", space.images["a"]).text == "would run: of the download 2.0 KiB are here"


def test_a_list_that_nobody_asked_for(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.follow("a", "https://bob:sesame@example.org/a.img", "https://bob:sesame@example.org/SUMS")
    space = opened(project, monkeypatch)
    image = space.images["a"]
    assert why.answer(space, "raw", image).text.startswith("not known: upstream's list was not asked for yet")
    facts = dict(why.facts(space, "raw", image))
    assert facts["upstream"] == "what https://example.org/SUMS says"
    assert facts["asked for by"].startswith("derive of ")
    assert dict(why.facts(space, "content", image))["asked for by"].startswith("nobody")
