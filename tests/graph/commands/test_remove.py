from __future__ import annotations

import json

from tests.kit.project import Project, disk


def test_an_image_goes_and_the_rest_stays(bare: Project) -> None:
    before = (bare.folder / "images.toml").read_text()
    bare.declare("b", disk("b"))
    said = bare.larder_ok("remove", "b")
    assert '-[images."b"]\n' in said
    assert "larder prune" in said
    assert (bare.folder / "images.toml").read_text() == before


def test_for_scripts(bare: Project) -> None:
    bare.declare("b", disk("b"))
    before = (bare.folder / "images.toml").read_text()
    document = json.loads(bare.larder_ok("remove", "b", "--json", "-n"))
    assert (document["removed"], document["written"]) == (["b"], False)
    assert (bare.folder / "images.toml").read_text() == before


def test_the_last_one_stays(bare: Project) -> None:
    before = (bare.folder / "images.toml").read_text()
    result = bare.larder("remove", "a")
    assert result.status == 1
    assert "the only image" in result.err
    assert (bare.folder / "images.toml").read_text() == before


def test_what_there_is_not(bare: Project) -> None:
    assert "did you mean a?" not in bare.larder("remove", "b").err
    assert bare.larder("remove", "b").status == 3
    assert bare.larder("remove").status == 3
