from __future__ import annotations

import ast
from pathlib import Path

import pytest

from recipes.errors import ImageError
from recipes.formats.disk.table import FORMATS, readable, reader, virtual_size
from recipes.formats.io import probe

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_magic_and_refuses_what_is_cut_off(name: str, tmp_path: Path) -> None:
    assert name in probe.DISK_FORMATS
    assert name in readable()
    magic = next(magic for magic in probe.MAGICS if magic.format == name)
    assert FORMATS[name].claimed_size(reader(magic.value), len(magic.value)) is None
    path = tmp_path / "disk"
    path.write_bytes(bytes(max(0, magic.offset)) + magic.value)
    with path.open("rb") as file, pytest.raises(ImageError, match=str(path)):
        FORMATS[name].open(file.fileno(), path, 1 << 40)


@pytest.mark.parametrize(
    ("name", "head", "size", "expected"),
    [
        ("raw", b"", 1025, 1536),
        ("raw", b"", None, None),
        ("iso9660", b"", 2048, 2048),
        ("qcow2", b"QFI\xfb" + bytes(20) + (3 << 30).to_bytes(8, "big"), 70, 3 << 30),
        ("qcow2", b"QFI\xfb" + bytes(20), 24, None),
        ("vmdk", b"KDMV" + bytes(500), 504, None),
        ("text", b"text", 4, None),
    ],
)
def test_what_a_file_claims(name: str, head: bytes, size: int | None, expected: int | None) -> None:
    assert virtual_size(name, reader(head), size) == expected


def test_only_the_table_knows_a_format() -> None:
    """What exports knows QCOW2 as something to write, or as what Lima converts; so do the single steps."""
    allowed = {"formats/disk/table.py", "export/clone.py", "export/lima.py", "derive/qcow2.py", "steps/disks.py"}
    assert {path for path, module in _imports() if ".qcow2" in module and "disk/qcow2/" not in path} <= allowed


def _imports() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for path in RECIPES.rglob("*.py"):
        name = path.relative_to(RECIPES).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found.append((name, "." * node.level + (node.module or "")))
    return found
