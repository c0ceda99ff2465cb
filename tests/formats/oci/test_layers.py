from __future__ import annotations

import itertools
import json
import random
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.errors import CorruptImage, LimitExceeded, StoreError
from recipes.formats.io import bounds
from recipes.formats.io.context import Context
from recipes.formats.oci.layers import apply, flatten
from recipes.formats.oci.layout import open_image
from recipes.formats.oci.spec import CONFIG, LAYER, MANIFEST
from recipes.formats.tar import read as tar_read
from recipes.formats.tar.read import Member
from recipes.formats.tree.tree import Node, Tree
from tests.kit import trees
from tests.kit.oci_images import (
    AMD64,
    COMPRESS,
    Layout,
    docker_archive,
    file,
    folder,
    hardlink,
    sha256,
    symlink,
    tar,
    write_tar,
)
from tests.kit.tar_archives import END, extended, sparse_0_1
from tests.kit.tar_archives import file as archived

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE, DIR, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def members(*lines: str) -> list[Member]:
    """Return what lines say: ``a`` a file, ``a/`` a directory, ``a -> b`` a symbolic link, ``a = b`` a hard link.

    A file's content is its line, so that it tells where it came from; ``a: text`` gives another content.
    """
    found = []
    for line in lines:
        if " = " in line:
            name, link = line.split(" = ")
            found.append(Member(name.encode(), None, link.encode()))
            continue
        if " -> " in line:
            name, target = line.split(" -> ")
            node = Node(LINK, target=target.encode())
        elif line.endswith("/"):
            name, node = line, Node(DIR)
        else:
            name, _, text = line.partition(": ")
            node = Node(FILE, data=(text or name).encode(), size=len(text or name))
        found.append(Member(name.encode(), node, b""))
    return found


def layers(*changes: list[Member]) -> Tree:
    tree = Tree()
    for change in changes:
        apply(tree, change, "layer")
    return tree


def shown(tree: Tree) -> list[str]:
    """Return a tree as lines, directories only where they are empty; hard links as the first name they have."""
    first: dict[int, bytes] = {}
    lines = []
    for path, node in tree.walk():
        name = path.decode()
        if not path or node.children:
            continue
        if node.is_dir:
            lines.append(f"{name}/")
        elif id(node) in first:
            lines.append(f"{name} = {first[id(node)].decode()}")
        elif node.is_symlink:
            lines.append(f"{name} -> {node.target.decode()}")
        else:
            assert isinstance(node.data, bytes)
            lines.append(name if node.data == path else f"{name}: {node.data.decode()}")
        first.setdefault(id(node), path)
    return lines


class TestWhiteouts:
    def test_of_a_file_and_of_a_directory(self) -> None:
        tree = layers(members("a", "b", "d/", "d/x", "d/y/z"), members(".wh.a", ".wh.d"))
        assert shown(tree) == ["b"]

    def test_of_what_is_not_there(self) -> None:
        tree = layers(members("a"), members(".wh.b", "c/.wh.d", "a/.wh.e", "f/.wh..wh..opq", "a/.wh..wh..opq"))
        assert shown(tree) == ["a"]

    def test_opaque(self) -> None:
        tree = layers(members("a", "d/x", "d/y/z"), members("d/", "d/.wh..wh..opq"))
        assert shown(tree) == ["a", "d/"]
        tree = layers(members("a", "d/x"), members(".wh..wh..opq", "b"))
        assert shown(tree) == ["b"]

    def test_only_the_layers_below_are_hidden(self) -> None:
        below = members("a", "d/x", "d/y", "e/f")
        above = members("d/", "d/.wh..wh..opq", "d/x: new", "d/z/n", ".wh.a", "a/", "a/new", ".wh.e", "e: file")
        expected = ["a/new", "d/x: new", "d/z/n", "e: file"]
        assert shown(layers(below, above)) == expected
        for seed in range(50):
            random.Random(seed).shuffle(above)
            assert shown(layers(below, above)) == expected
        assert shown(layers(below, above, members(".wh.a", "d/z/.wh.n"))) == ["d/x: new", "d/z/", "e: file"]

    def test_a_directory_keeps_its_content_and_changes_its_mode(self) -> None:
        tree = layers(members("d/", "d/x"), [Member(b"d/", Node(stat.S_IFDIR | 0o700, 1, 2, 3), b"")])
        found = tree.root.children[b"d"]
        assert (found.mode, found.uid, found.gid, found.mtime_ns) == (stat.S_IFDIR | 0o700, 1, 2, 3)
        assert shown(tree) == ["d/x"]

    def test_one_type_takes_the_place_of_another(self) -> None:
        below = members("a", "b/x", "c -> a", "d/y", "e")
        above = members("a/", "a/n", "b", "c/", "c/n", "d -> b", "e -> a")
        assert shown(layers(below, above)) == ["a/n", "b", "c/n", "d -> b", "e -> a"]
        # What overlayfs writes for a directory in the place of a file.
        assert shown(layers(members("a"), members("a/", "a/.wh..wh..opq", "a/n"))) == ["a/n"]

    def test_below_a_directory_that_is_a_link(self) -> None:
        merged = members(
            "lib -> usr/lib", "usr/lib/a", "usr/lib/b", "usr/lib/d/x", "abs -> /usr/lib", "up -> ../../usr"
        )
        assert shown(layers(merged, members("lib/.wh.a", "lib/c"))) == [
            "abs -> /usr/lib",
            "lib -> usr/lib",
            "up -> ../../usr",
            "usr/lib/b",
            "usr/lib/c: lib/c",
            "usr/lib/d/x",
        ]
        left = ["abs -> /usr/lib", "lib -> usr/lib", "up -> ../../usr", "usr/lib/"]
        for name in ("lib", "abs", "up/lib"):
            assert shown(layers(merged, members(f"{name}/.wh..wh..opq"))) == left
        # The link itself, not what it is to.
        assert shown(layers(members("l -> d", "d/x"), members(".wh.l"))) == ["d/x"]

    def test_what_aufs_left(self) -> None:
        below = members("a", ".wh.x", ".wh..wh.aufs", ".wh..wh.plnk/", ".wh..wh.plnk/1.2: two", "b = .wh..wh.plnk/1.2")
        tree = layers(below, members(".wh..wh.orph/", ".wh..wh.plnk/1.2: new", "c = .wh..wh.plnk/1.2"))
        assert shown(tree) == ["a", "b: two", "c: new"]

    @pytest.mark.parametrize(
        "name", [".wh.", "d/.wh.", ".wh..", ".wh...", "d/.wh...", "../.wh.a", "d/../../.wh.a", "../.wh..wh..opq"]
    )
    def test_that_delete_what_cannot_be(self, name: str) -> None:
        with pytest.raises(CorruptImage, match=r"^layer: "):
            layers(members("a", "d/x"), members(name))

    def test_a_loop_of_links(self) -> None:
        with pytest.raises(CorruptImage, match="loop"):
            layers(members("a -> b", "b -> a"), members("a/.wh.x"))


class TestHardLinks:
    def test_to_a_layer_below(self) -> None:
        assert shown(layers(members("a"), members("b = a"))) == ["a", "b = a"]

    def test_outlive_the_replacement_of_their_target(self) -> None:
        below = members("a", "b = a")
        assert shown(layers(below, members("a: new"))) == ["a: new", "b: a"]
        assert shown(layers(below, members("b: new"))) == ["a", "b: new"]
        assert shown(layers(below, members(".wh.a"))) == ["b: a"]
        assert shown(layers(below, members("a: new", "b = a"))) == ["a: new", "b = a"]

    def test_to_what_their_own_layer_deletes(self) -> None:
        for order in itertools.permutations(members(".wh.a", "b = a")):
            assert shown(layers(members("a"), list(order))) == ["b: a"]
        assert shown(layers(members("d/a"), members(".wh.d", "b = d/a"))) == ["b: d/a"]
        # Unless the layer has it, too: what is there is what is meant.
        assert shown(layers(members("a"), members(".wh.a", "a: new", "b = a"))) == ["a: new", "b = a"]

    def test_to_nothing(self) -> None:
        for target in ("missing", "d", "../a", "a/b"):
            with pytest.raises(CorruptImage, match=r"^layer: "):
                layers(members("a", "d/x"), members(f"b = {target}"))
        with pytest.raises(CorruptImage, match=r"^layer: .*hard link to 'd', which is not there"):
            layers(members("d/x"), members(".wh.d", "b = d"))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """The folder for scratch files; there are none left when the test ends."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    assert not list(folder.iterdir())


def flat(path: Path, scratch: Path, *, jobs: int = 2, limit: int = 1 << 30) -> Tree:
    names = itertools.count()
    with open_image(path, arch="x86_64") as image:
        return flatten(image, Context(jobs=jobs, limit=limit, scratch=lambda: scratch / f"layer{next(names)}"))


BELOW = tar(
    folder("d", 0o700), file("d/a", b"a" * 100_000), file("b", b"b"), symlink("l", "d"), file("zeros", bytes(3_000_000))
)
ABOVE = tar(file("d/.wh.a"), hardlink("c", "b"), file("l/new", b"new"), file("b", b"other"))


class TestImages:
    @pytest.mark.parametrize("suffix", COMPRESS)
    @pytest.mark.parametrize("jobs", [1, 3])
    def test_they_are_what_applying_their_layers_gives(
        self, suffix: str, jobs: int, tmp_path: Path, scratch: Path
    ) -> None:
        layout = Layout()
        path = layout.write(tmp_path / "image", layout.image(BELOW, ABOVE, suffix=suffix))
        final = tar(
            folder("d", 0o700),
            file("d/new", b"new"),
            file("c", b"b"),
            file("b", b"other"),
            symlink("l", "d"),
            file("zeros", bytes(3_000_000)),
        )
        (tmp_path / "final").write_bytes(final)
        with flat(path, scratch, jobs=jobs) as tree, tar_read.load(tmp_path / "final") as expected:
            path.unlink()
            assert not list(scratch.iterdir())
            assert trees.differences(trees.of_tree(tree), trees.of_tree(expected)) == []

    def test_a_docker_archive(self, tmp_path: Path, scratch: Path) -> None:
        listing, files = docker_archive([BELOW, ABOVE])
        write_tar(tmp_path / "image", {**files, "manifest.json": json.dumps([listing]).encode()})
        with flat(tmp_path / "image", scratch) as tree:
            assert sorted(tree.root.children) == [b"b", b"c", b"d", b"l", b"zeros"]

    def test_an_image_without_layers(self, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        with flat(layout.write(tmp_path / "image", layout.image()), scratch) as tree:
            assert not tree.root.children

    @pytest.mark.parametrize("suffix", COMPRESS)
    def test_a_layer_with_another_digest(self, suffix: str, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        image = layout.image(BELOW, ABOVE, suffix=suffix)
        packed = bytearray(COMPRESS[suffix](BELOW))
        name = f"blobs/sha256/{sha256(packed)}"
        # Of gzip the time in the header, which changes nothing but the digest.
        packed[4] ^= 1
        layout.files[name] = bytes(packed)
        path = layout.write(tmp_path / "image", image)
        with pytest.raises(CorruptImage, match=f"layer 1 of 2: expected sha256:.*, found sha256:{sha256(packed)}"):
            flat(path, scratch)

    @pytest.mark.parametrize("suffix", COMPRESS)
    def test_a_layer_with_another_diff_id(self, suffix: str, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        diff_ids = [f"sha256:{sha256(BELOW)}", f"sha256:{sha256(BELOW)}"]
        image = layout.image(BELOW, ABOVE, suffix=suffix, config={"rootfs": {"diff_ids": diff_ids}})
        path = layout.write(tmp_path / "image", image)
        with pytest.raises(CorruptImage, match=f"layer 2 of 2: expected {diff_ids[1]}, found sha256:{sha256(ABOVE)}"):
            flat(path, scratch)

    @pytest.mark.parametrize("suffix", COMPRESS)
    def test_more_than_the_limit(self, suffix: str, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        path = layout.write(tmp_path / "image", layout.image(BELOW, BELOW, ABOVE, suffix=suffix))
        total = 2 * len(BELOW) + len(ABOVE)
        with pytest.raises(LimitExceeded, match=f"more than the limit of {total - 1} bytes"):
            flat(path, scratch, limit=total - 1)
        flat(path, scratch, limit=total).__exit__()

    @pytest.mark.long
    @pytest.mark.parametrize("suffix", ["+gzip", "+zstd"])
    def test_a_bomb_ends_at_the_limit(self, suffix: str, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        path = layout.write(tmp_path / "image", layout.image(bytes(1 << 27), suffix=suffix))
        with pytest.raises(LimitExceeded, match="1000000 bytes"):
            flat(path, scratch, limit=1_000_000)

    @pytest.mark.parametrize("times", [1, 5])
    def test_a_bomb_ends_at_what_its_size_allows(
        self, times: int, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where one small file is many layers."""
        monkeypatch.setattr(bounds, "FREE_CONTENT", 1 << 20)
        monkeypatch.setattr(bounds, "EXPANSION", 10)
        layout = Layout()
        layer = tar(file("zeros", bytes((5 << 20) // times)))
        image = layout.image(*[layer] * times, suffix="+gzip")
        stored = len(COMPRESS["+gzip"](layer))
        with pytest.raises(LimitExceeded, match=f"more than the limit of {(1 << 20) + 10 * stored} bytes"):
            flat(layout.write(tmp_path / "image", image), scratch, limit=2 << 40)

    @pytest.mark.long
    @pytest.mark.parametrize("times", [1, 20])
    def test_members_take_no_more_memory_than_their_layers_justify(
        self, times: int, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A header that repeats the one before it takes two bytes of gzip, and some hundred of memory."""
        monkeypatch.setattr(bounds, "FREE_METADATA", 2 << 20)
        layout = Layout()
        few = layout.image(*[tar(*[file("a")] * (1000 // times))] * times, suffix="+gzip")
        flat(layout.write(tmp_path / "few", few), scratch, limit=2 << 40).__exit__()
        many = layout.image(*[tar(*[file("a")] * (6000 // times))] * times, suffix="+gzip")
        with pytest.raises(LimitExceeded, match="too many files and attributes for an input of"):
            flat(layout.write(tmp_path / "many", many), scratch, limit=2 << 40)

    @pytest.mark.parametrize("heavy", ["xattrs", "paths", "pieces", "targets"])
    def test_what_members_carry_counts(
        self, heavy: str, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bounds, "FREE_METADATA", 150_000)
        layer = {
            "xattrs": lambda: (extended([(b"SCHILY.xattr.user.a", b"x" * 30_000)]) + archived(b"", b"a")) * 40 + END,
            "paths": lambda: (extended([(b"path", b"a/" * 1500)]) + archived(b"", b"a")) * 40 + END,
            "pieces": lambda: (
                sparse_0_1(b"5000", b",".join(b"%d,1" % (2 * at) for at in range(500)), b"s" * 500) * 40 + END
            ),
            "targets": lambda: tar(*[symlink("a", "t" * 4000)] * 200),
        }[heavy]()
        layout = Layout()
        image = layout.image(tar(file("a")), layer, suffix="+gzip")
        with pytest.raises(LimitExceeded, match=r"layer 2 of 2: at byte .*too many files"):
            flat(layout.write(tmp_path / "image", image), scratch, limit=2 << 40)

    @pytest.mark.parametrize("suffix", ["+gzip", "+zstd"])
    def test_a_compressed_layer_that_is_cut(self, suffix: str, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        packed = COMPRESS[suffix](BELOW)[:-3]
        config = layout.document({**AMD64, "rootfs": {"diff_ids": [f"sha256:{sha256(BELOW)}"]}}, CONFIG)
        manifest = {"schemaVersion": 2, "config": config, "layers": [layout.blob(packed, LAYER + suffix)]}
        path = layout.write(tmp_path / "image", layout.document(manifest, MANIFEST))
        with pytest.raises(CorruptImage, match=f"layer 1 of 1: {suffix[1:]}: near byte"):
            flat(path, scratch)

    def test_a_layer_that_is_no_tar(self, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        path = layout.write(tmp_path / "image", layout.image(BELOW, b"no tar" * 1000))
        with pytest.raises(CorruptImage, match="layer 2 of 2: at byte 0 of 6000"):
            flat(path, scratch)

    @pytest.mark.parametrize("name", ["../x", "/../x", "d/../../x"])
    def test_a_layer_whose_names_leave_the_root(self, name: str, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        for bad in (file(name), hardlink("x", name), file(f"{name}/.wh.y")):
            path = layout.write(tmp_path / "image", layout.image(BELOW, tar(bad), suffix="+gzip"))
            with pytest.raises(CorruptImage, match=r"layer 2 of 2: .*leaves the root"):
                flat(path, scratch)

    def test_a_scratch_file_that_cannot_be(self, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        path = layout.write(tmp_path / "image", layout.image(BELOW, suffix="+gzip"))
        with pytest.raises(StoreError, match="No such file"):
            flat(path, scratch / "missing")

    def test_no_file_stays_open_after_an_error(self, tmp_path: Path, scratch: Path) -> None:
        layout = Layout()
        path = layout.write(tmp_path / "image", layout.image(BELOW, ABOVE, b"no tar" * 1000, suffix="+gzip"))
        before = len(list(Path("/dev/fd").iterdir()))
        with pytest.raises(CorruptImage):
            flat(path, scratch)
        assert len(list(Path("/dev/fd").iterdir())) == before
