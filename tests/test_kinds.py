"""One table of kinds: what lists them reads it, or is held against it here."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from recipes import kinds
from recipes.__main__ import COMMANDS as STEPS
from recipes.cache.store import Store
from recipes.declare.images import DEFAULT_DERIVE
from recipes.derive.engine import RECIPES, Session, derive
from recipes.derive.recipe import Limits, Made, Recipe
from recipes.kinds import DERIVABLE, KINDS, Row
from recipes.model import Artifact, Digest, Identity, Image, Kind, Source

if TYPE_CHECKING:
    from recipes.derive.recipe import Work
    from tests.kit.project import Project

ROOT = Path(__file__).parents[1]
PAGES = ("commands", "images-toml", "cache")


def schema(name: str) -> Any:
    return json.loads((ROOT / "schema" / f"{name}.schema.json").read_text())


def test_schemas_list_the_kinds() -> None:
    images, receipt = schema("images"), schema("receipt")
    derive = re.findall(r'"enum": (\["fetch"[^\]]*\])', json.dumps(images))
    assert [json.loads(each) for each in derive] == [list(KINDS)]
    assert receipt["properties"]["kind"]["enum"] == list(KINDS)
    assert get_args(Kind) == tuple(DERIVABLE)


@pytest.mark.parametrize("kind", KINDS)
def test_pages_list_the_kinds(kind: str) -> None:
    """The man page and `larder help` read the table; what people write for people is held against it."""
    page = {name: (ROOT / name).read_text() for name in ("README.md", *(f"docs/{each}.md" for each in PAGES))}
    for name in ("README.md", "docs/commands.md"):
        assert re.search(rf"(?m)^\|.*`(larder )?{kind}:NAME`.* \|", page[name]), f"{name}: a row for {kind}:NAME"
    (derive,) = re.findall(r"(?m)^\| `derive` \|.*", page["docs/images-toml.md"])
    assert f"`{kind}`" in derive, f"docs/images-toml.md, derive: `{kind}`"
    layout = page["docs/cache.md"].split("```")[1]
    assert KINDS[kind].file in layout, f"docs/cache.md: {KINDS[kind].file} in the layout of the cache"
    assert f"{kind}.json" in layout, f"docs/cache.md: {kind}.json in the layout of the cache"


def test_every_kind_has_a_recipe_of_its_name() -> None:
    assert list(RECIPES) == list(KINDS)
    for kind, recipe in RECIPES.items():
        assert recipe.kind == kind
        assert importlib.import_module(f"recipes.derive.{kind}").RECIPE is recipe


def test_inputs_come_before_what_is_made_from_them() -> None:
    for inputs in DERIVABLE.values():
        seen: set[str | None] = {None}
        for kind, made_from in inputs.items():
            assert made_from in seen
            seen.add(kind)


@pytest.mark.parametrize("row", KINDS.values(), ids=lambda row: row.name)
def test_every_row_is_whole(row: Row) -> None:
    assert row.made_from
    assert "{path}" in row.clients
    assert not re.search(r"\bdoit \w+:", row.clients), "larder works in every folder, doit where a dodo.py is"
    assert row.doc.format(title="x") != row.doc
    assert row.own_size is None or row.own_size in Image._fields
    assert sum(other.file == row.file for other in KINDS.values()) == 1


def test_a_new_kind_is_a_row_and_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else has to be told of it: it is derived, published, released, listed as a task and cloned."""
    from recipes.export import clone
    from recipes.graph.tasks.derivations import creators

    row = Row("shout", "shout.txt", {"disk": "content"}, "{title}, louder", "Each, louder.", "{path}\n")

    def make(work: Work) -> Made:
        path, receipt = work.input()
        work.temporary.write_bytes(path.read_bytes().upper())
        return Made(work.temporary, Artifact(digest=Digest("sha256", "0" * 64)), receipt.content)

    monkeypatch.setitem(kinds.KINDS, "shout", row)
    monkeypatch.setitem(kinds.DERIVABLE["disk"], "shout", "content")
    monkeypatch.setitem(RECIPES, "shout", Recipe(kind="shout", version=1, make=make))
    data = b"quiet" * 1000
    upstream = tmp_path / "disk.img"
    upstream.write_bytes(data)
    digest = Digest("sha256", hashlib.sha256(data).hexdigest())
    source = Source((upstream.as_uri(),), digest)
    image = Image("a", "x86_64", "disk", source, derive=("shout",))
    limits = Limits(mirrors={}, max_virtual_size=1 << 30, jobs=1, offline=False)
    session = Session(Store(tmp_path / "cache"), limits)
    receipt = derive("shout", image, Identity(source.urls, digest), session)
    entry = session.store.entry(image)
    assert entry.artifact("shout").read_bytes() == data.upper()
    assert (receipt.kind, receipt.recipe) == ("shout", "shout/1")
    assert entry.kinds() == ["shout"]
    assert "task_shout" in creators()
    assert "shout" in clone.formats("disk")


def test_a_new_kind_is_a_task_of_the_real_program(project: Project) -> None:
    """A module in derive/ and a row are enough for list, run, status, path, help, clone and prune."""
    project.hook(
        "import sys, types\n"
        "from recipes import kinds\n"
        "row = kinds.Row('shout', 'shout.txt', {'disk': 'content'}, '{title}, louder', 'Each, louder.', 'cat {path}')\n"
        "kinds.KINDS['shout'] = row\n"
        "kinds.DERIVABLE['disk']['shout'] = 'content'\n"
        "from recipes.derive.recipe import Made, Recipe\n"
        "from recipes.model import Artifact, Digest\n"
        "def make(work):\n"
        "    path, receipt = work.input()\n"
        "    work.temporary.write_bytes(path.read_bytes().upper())\n"
        "    return Made(work.temporary, Artifact(digest=Digest('sha256', '0' * 64)), receipt.content)\n"
        "module = types.ModuleType('recipes.derive.shout')\n"
        "module.RECIPE = Recipe(kind='shout', version=1, make=make)\n"
        "sys.modules['recipes.derive.shout'] = module\n"
    )
    data = b"quiet" * 1000
    project.declare("a", data, derive=["raw"], kind="disk")
    assert "shout:a" in project.ok("list", "--all")
    assert "shout:a" in project.executed("shout:a")
    path = project.entry("a") / "shout.txt"
    assert path.read_bytes() == data.upper()
    assert project.ok("path", "shout:a") == f"{path}\n"
    assert f"cat {path}" in project.ok("help", "shout:a")
    kinds_there = {row["kind"] for row in json.loads(project.ok("status", "--json"))["artifacts"]}
    assert {"shout"} <= kinds_there
    project.ok("clone:a", "--format", "shout", "--to", "copy")
    assert (project.folder / "copy").read_bytes() == data.upper()
    assert "0 B" in project.ok("prune", "--dry-run")


def test_what_names_kinds_elsewhere_names_these() -> None:
    assert DEFAULT_DERIVE.keys() == DERIVABLE.keys()
    for image, asked in DEFAULT_DERIVE.items():
        assert set(asked) <= DERIVABLE[image].keys()
    assert STEPS.keys() - {"clone", "convert", "digest"} <= KINDS.keys()
