from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded
from recipes.formats import microvm
from recipes.formats.io import blkhash
from recipes.formats.io.context import Context
from recipes.formats.tree.tree import Node, Tree
from recipes.progress import SILENT_METER
from tests.kit.debian import run
from tests.kit.mounts import mounted
from tests.kit.nasty import DIR, FILE, LINK, nasty
from tests.kit.oracles import need
from tests.kit.trees import differences, of_folder, of_tree

if TYPE_CHECKING:
    from pathlib import Path

MiB, GiB = 1 << 20, 1 << 30

each_journal = pytest.mark.parametrize("journal", [True, False], ids=["journal", "none"])


def make(path: Path, tree: Tree, size: int = 200 * MiB, *, journal: bool = True) -> Path:
    found = microvm.write_ext4(
        tree, path, Context(durable=False), size=size, label="debian-12-minimal", journal=journal
    )
    assert found == blkhash.of_file(path, jobs=1, meter=SILENT_METER)
    assert path.stat().st_size == size
    return path


def tree_of(*paths: bytes, links: dict[bytes, bytes] | None = None) -> Tree:
    tree = Tree()
    for path in paths:
        folder = b""
        for part in path.split(b"/")[:-1]:
            folder = folder + b"/" + part if folder else part
            if tree.find(folder) is None:
                tree.add(folder, Node(DIR))
        tree.add(path, Node(FILE))
    for path, target in (links or {}).items():
        tree.add(path, Node(LINK, target=target))
    return tree


@each_journal
def test_it_is_what_the_kernel_mounts(journal: bool, tmp_path: Path) -> None:
    need("e2fsck")
    tree = nasty()
    image = make(tmp_path / "ext4", tree, journal=journal)
    run("e2fsck", "-fn", image)
    with mounted(image) as folder:
        assert differences(of_folder(folder), of_tree(tree)) == []


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    assert make(tmp_path / "one", nasty()).read_bytes() == make(tmp_path / "two", nasty()).read_bytes()


def _without_socket() -> Tree:
    """Return a tree of all that is kept: a socket is nothing without who made it."""
    tree = nasty()
    tree.remove(b"socket")
    return tree


@each_journal
@pytest.mark.parametrize("size", [201 * MiB, 3 * GiB, 40 * GiB], ids=lambda size: f"{size >> 20}M")
def test_a_larger_one_is_as_if_it_had_been_made_so(size: int, journal: bool, tmp_path: Path) -> None:
    need("e2fsck", "cmp")
    small = make(tmp_path / "small", _without_socket(), journal=journal)
    microvm.grow_ext4(small, tmp_path / "grown", Context(durable=False), size=size)
    run("e2fsck", "-fn", tmp_path / "grown")
    made = make(tmp_path / "made", _without_socket(), size, journal=journal)
    assert blkhash.of_file(tmp_path / "grown", jobs=2, meter=SILENT_METER) == blkhash.of_file(
        made, jobs=2, meter=SILENT_METER
    )


def test_nothing_is_left_of_one_that_is_too_small(tmp_path: Path) -> None:
    tree = tree_of(b"a")
    with pytest.raises(LimitExceeded, match="too small"):
        microvm.write_ext4(tree, tmp_path / "ext4", Context(), size=MiB, label="", journal=True)
    assert not list(tmp_path.iterdir())


def test_what_is_no_ext4_does_not_grow(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(bytes(MiB))
    with pytest.raises(CorruptImage, match="magic"):
        microvm.grow_ext4(tmp_path / "source", tmp_path / "grown", Context(), size=GiB)
    assert not (tmp_path / "grown").exists()


class TestLacks:
    def test_nothing_of_a_whole_system(self) -> None:
        tree = tree_of(b"usr/lib/systemd/systemd", b"etc/fstab", links={b"etc/resolv.conf": b"/run/resolv.conf"})
        tree.add(b"usr/sbin", Node(DIR))
        tree.add(b"usr/sbin/init", Node(LINK, target=b"/usr/lib/systemd/systemd"))
        tree.add(b"sbin", Node(LINK, target=b"usr/sbin"))
        assert list(microvm.lacks(tree)) == []

    def test_much_of_a_container(self) -> None:
        said = list(microvm.lacks(tree_of(b"bin/sh")))
        assert len(said) == 3
        assert "no init" in said[0]
        assert "only /bin/sh" in said[0]

    def test_an_init_that_leads_nowhere_is_none(self) -> None:
        tree = tree_of(b"etc/fstab", b"etc/resolv.conf", b"sbin/x", links={b"sbin/init": b"../gone"})
        assert [text[:14] for text in microvm.lacks(tree)] == ["it has no init"]
