"""`doit keys` through the real program."""

from __future__ import annotations

import gzip
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.project import disk, sha256

if TYPE_CHECKING:
    from tests.kit.project import Project


def keys(project: Project, *names: str, **environ: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(project.ok("keys", "--json", *names, **environ))
    return document


@pytest.fixture
def two(project: Project) -> Project:
    """A project with two images, of which more than the RAW is asked for once."""
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz", derive=["raw", "fetch"])
    project.declare("b", disk("b"))
    return project


def test_what_is_asked_for_and_not_there(two: Project) -> None:
    document = keys(two)
    assert [each["task"] for each in document["artifacts"]] == ["fetch:a", "raw:a", "raw:b"]
    assert document["cache"] == str(two.cache)
    first = document["artifacts"][0]
    assert first == {
        "task": "fetch:a",
        "kind": "fetch",
        "image": "a",
        "arch": "x86_64",
        "key": first["key"],
        "paths": [str(two.entry("a") / "wrapper"), str(two.entry("a") / "fetch.json")],
        "current": False,
        "size": (two.upstream / "a.raw.gz").stat().st_size,
        "allocated": None,
    }
    assert not two.entry("a").exists(), "nothing is made"
    assert document["paths"] == [path for each in document["artifacts"] for path in each["paths"]]


def test_the_keys_are_those_of_the_receipts(two: Project) -> None:
    before = keys(two)
    two.ok("raw", "fetch:a")
    after = keys(two)
    for one, other in zip(before["artifacts"], after["artifacts"], strict=True):
        receipt = two.receipt(other["image"], other["kind"])
        assert one["key"] == other["key"] == receipt["key"]
        assert (one["current"], other["current"]) == (False, True)
        assert (other["size"], other["allocated"]) == (receipt["artifact"]["size"], receipt["artifact"]["allocated"])
    assert before["key"] == after["key"]


def test_the_paths_are_all_that_another_machine_needs(two: Project) -> None:
    two.ok("raw", "fetch:a")
    document = keys(two)
    stored = two.cache.rename(two.cache.with_name("stored"))
    for path in document["paths"]:
        target = two.cache / path.removeprefix(f"{two.cache}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stored / target.relative_to(two.cache), target)
    shutil.rmtree(two.upstream)
    assert two.executed("raw", "fetch:a") == {"resolve:a", "resolve:b"}


def test_one_key_for_all(two: Project) -> None:
    both, one = keys(two), keys(two, "raw:a")
    assert keys(two, "b", "a")["key"] == both["key"]
    assert one["key"] not in (both["key"], one["artifacts"][0]["key"])
    two.declare("b", disk("new"))
    assert keys(two)["key"] != both["key"]
    assert keys(two, "raw:a") == one


def test_what_is_named_need_not_be_asked_for(two: Project) -> None:
    assert [each["task"] for each in keys(two, "vhdx:b", "content:a")["artifacts"]] == ["vhdx:b", "content:a"]
    assert [each["task"] for each in keys(two, "a")["artifacts"]] == ["fetch:a", "raw:a"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("c", "no such command, kind, image or task"),
        ("raw:c", "no image 'c'"),
        ("iso:a", "no kind iso"),
        ("oci:", "no image ''"),
    ],
)
def test_what_there_is_not(word: str, said: str, two: Project) -> None:
    result = two.doit("keys", word)
    assert result.status == 3
    assert said in result.err


def test_text(two: Project) -> None:
    two.ok("raw:b")
    document, lines = keys(two), two.ok("keys").splitlines()
    assert lines[0].split() == ["ARTIFACT", "ARCH", "CURRENT", "SIZE", "KEY"]
    assert [line.split()[0] for line in lines[1:4]] == ["fetch:a", "raw:a", "raw:b"]
    assert [line.split()[-1] for line in lines[1:4]] == [each["key"] for each in document["artifacts"]]
    assert [line.split()[2] for line in lines[1:4]] == ["no", "no", "yes"]
    assert lines[-1] == f"all: {document['key']}"


def test_of_nothing(project: Project) -> None:
    project.declare("a", disk("a"), derive=[])
    assert project.ok("keys") == "nothing is asked for\n"
    assert keys(project)["artifacts"] == []


def test_a_floating_image_has_the_key_of_what_its_list_says(project: Project) -> None:
    data = disk("a")
    url = project.serve("a.img", data)
    sums = project.serve("SHA256SUMS", f"{sha256(data).removeprefix('sha256:')}  a.img\n".encode())
    project.follow("a", url, sums)
    floating = keys(project)
    project.declare("a", data)
    assert [each["key"] for each in floating["artifacts"]] == [each["key"] for each in keys(project)["artifacts"]]


def test_a_list_that_cannot_be_had(two: Project) -> None:
    two.follow("c", (two.upstream / "c.img").as_uri(), (two.upstream / "SHA256SUMS").as_uri())
    result = two.doit("keys", "--json")
    assert result.status == 1
    document = json.loads(result.out)
    assert document["key"] is None
    assert {each["image"]: each["key"] is None for each in document["artifacts"]} == {"a": False, "b": False, "c": True}
    assert "c: " in result.err
    assert result.err.count("SHA256SUMS") >= 1
    assert two.doit("keys").out.splitlines()[-1] == "all: ?"
    assert keys(two, "a", "b")["key"]


def test_offline(two: Project) -> None:
    assert keys(two, LARDER_OFFLINE="1") == keys(two)
