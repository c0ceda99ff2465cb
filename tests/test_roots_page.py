"""docs/roots.md: its table has each disk of the catalogue, and says of each what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipes import declare
from recipes.formats.fs.table import READERS
from recipes.rootplace import RootPlace

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/roots.md").read_text(encoding="utf-8")
ROWS = {
    name: (system, verdict, note)
    for name, system, verdict, note in re.findall(r"^\| `(\S+)` \| (.+?) \| (yes|no) \| (.*?) ?\|$", PAGE, re.MULTILINE)
}


def test_each_disk_has_a_row_and_nothing_else_has() -> None:
    declared = declare.load(ROOT / "images.toml").images
    disks = [name for name, by_arch in declared.items() if any(image.kind == "disk" for image in by_arch.values())]
    assert sorted(ROWS) == sorted(disks)
    # Without the one that comes along.
    assert len(disks) - 1 == 21


@pytest.mark.parametrize("name", ROWS)
def test_what_is_read_is_read(name: str) -> None:
    """A disk becomes a root exactly if there is a reader for each file system that it may have."""
    system, verdict, note = ROWS[name]
    systems = re.split(r" or |, ", system)
    assert all(each.lower() in READERS or each == "ostree" for each in systems) is (verdict == "yes")
    assert verdict == "yes" or note, "why not"


def test_places_on_the_page_are_read() -> None:
    places = re.findall(r'`"(partition|volume|subvolume|deployment) ([^"]+)"`', PAGE)
    assert len(places) == 5
    for word, value in places:
        assert str(RootPlace.parse(f"{word} {value}")).startswith(word)
