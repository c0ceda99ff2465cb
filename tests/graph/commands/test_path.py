from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kit.project import disk

if TYPE_CHECKING:
    from tests.kit.project import Project


def test_where_artifacts_are(bare: Project) -> None:
    bare.larder_ok("fetch:a", "raw:a")
    out = bare.larder_ok("path", "raw:a", "fetch:a")
    assert out.splitlines()[0] == str(bare.entry("a") / "disk.raw")
    assert len(out.splitlines()) == 2
    # A path that was asked for is in use.
    assert (bare.entry("a") / "raw.used").exists()


def test_one_that_is_not_current_fails(bare: Project) -> None:
    result = bare.larder("path", "raw:a")
    assert (result.status, result.out) == (1, "")
    assert "raw:a is not in the cache, or out of date" in result.err
    assert "hint: larder raw:a" in result.err
    bare.larder_ok("raw:a")
    bare.declare("a", disk("other"))
    result = bare.larder("path", "raw:a")
    assert (result.status, result.out) == (1, "")


def test_all_or_nothing(bare: Project) -> None:
    bare.larder_ok("raw:a")
    result = bare.larder("path", "raw:a", "fetch:a")
    assert (result.status, result.out) == (1, "")


def test_what_is_no_artifact(bare: Project) -> None:
    for word in ("raw:nothing", "rwa:a", "a", "clone:a"):
        result = bare.larder("path", word)
        assert result.status == 3, word
        assert "Traceback" not in result.err
    result = bare.larder("path")
    assert result.status == 3
    assert "expected KIND:IMAGE" in result.err
