from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from recipes import declare
from recipes.errors import LarderError
from recipes.model import Digest
from recipes.project.edit import Edit, begin
from recipes.project.find import Found

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = Digest("sha256", "0f" * 32)
TEXT = f"""# Mine.
[cache]
registry = "registry.example/p"

[images.a.x86_64]   # first
url = "https://h/a.img"
digest = "{DIGEST}"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "images.toml").write_text(TEXT)
    return tmp_path / "images.toml"


def found(url: str, **more: Any) -> Found:
    return Found(**{"url": url, "kind": "disk", "arches": ("x86_64",), "digest": DIGEST, **more})


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_every_other_byte_stays(mark: str, line_end: str, path: Path) -> None:
    before = f"{mark}{TEXT}".replace("\n", line_end).encode()
    path.write_bytes(before)
    edit = Edit.of(path)
    edit.add("b.1", found("https://h/b.img", size=3, checksums="https://h/SUMS", signature="https://h/SUMS.gpg"), None)
    assert path.read_bytes() == before
    edit.apply()
    after = path.read_bytes()
    assert after.startswith(before)
    assert b"\r" not in after.replace(b"\r\n", b"") if line_end == "\r\n" else b"\r" not in after
    source = declare.load(path).images["b.1"]["x86_64"].source
    assert (source.urls, source.digest, source.size, source.checksums) == (
        ("https://h/b.img",),
        DIGEST,
        3,
        "https://h/SUMS",
    )
    # Nobody said whose signature counts.
    assert source.signature is None
    edit = Edit.of(path)
    edit.remove("b.1")
    edit.apply()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("url", "kind", "line"),
    [
        ("https://h/b.tar.gz", "rootfs", None),
        ("https://h/b", "rootfs", 'kind = "rootfs"'),
        ("https://h/b.tar", "disk", 'kind = "disk"'),
        ("./b.tar", "rootfs", None),
        ("https://h/b", "disk", None),
    ],
)
def test_the_kind_is_written_where_the_url_does_not_tell(url: str, kind: str, line: str | None, path: Path) -> None:
    edit = Edit.of(path)
    edit.add("b", found(url, kind=kind), None)
    edit.apply()
    assert declare.load(path).images["b"]["x86_64"].kind == kind
    assert ("kind = " in path.read_text()) == (line is not None)
    assert line is None or line in path.read_text()


def test_a_second_architecture_has_to_be_of_the_same_kind(path: Path) -> None:
    edit = Edit.of(path)
    edit.add("a", found("https://h/a-arm64.img", arches=("aarch64",)), None)
    with pytest.raises(LarderError, match="already, for x86_64 and aarch64"):
        edit.add("a", found("https://h/a.img", arches=("x86_64", "aarch64")), None)
    edit = Edit.of(path)
    with pytest.raises(LarderError, match="ends like a rootfs"):
        edit.add("a", found("https://h/a.tar.xz", kind="rootfs", arches=("aarch64",)), None)


def test_what_was_changed_meanwhile_is_not_overwritten(path: Path) -> None:
    edit = Edit.of(path)
    edit.add("b", found("https://h/b.img"), None)
    path.write_text(f"{TEXT}# more\n")
    with pytest.raises(LarderError, match="changed meanwhile"):
        edit.apply()
    assert path.read_text() == f"{TEXT}# more\n"


def test_a_file_of_that_name_is_not_overwritten(path: Path) -> None:
    (path.parent / "demo").mkdir()
    (path.parent / "demo" / "demo.qcow2").write_bytes(b"mine")
    edit = Edit.of(path)
    edit.copy("demo")
    with pytest.raises(LarderError, match="another file"):
        edit.apply()
    assert path.read_text() == TEXT


def test_the_first_one_is_whole(tmp_path: Path) -> None:
    edit = begin(tmp_path / "images.toml", ("debian-12", "demo"))
    assert not list(tmp_path.iterdir())
    edit.apply()
    assert list(declare.load(tmp_path / "images.toml").images) == ["debian-12", "demo"]
    assert list(tomllib.loads((tmp_path / "images.toml").read_text())) == ["images"]
    with pytest.raises(LarderError, match="is there already"):
        begin(tmp_path / "images.toml", ())
