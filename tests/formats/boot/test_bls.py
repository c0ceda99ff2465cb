"""Boot loader entries: what is in them, and which one is preferred."""

from __future__ import annotations

import stat

import pytest

from recipes.errors import LimitExceeded
from recipes.formats.boot import bls
from recipes.formats.tree.tree import Node, Tree

FEDORA = """# a comment
title Fedora Linux (6.9.4-200.fc40.x86_64) 40 (Cloud Edition)
version 6.9.4-200.fc40.x86_64
linux /vmlinuz-6.9.4-200.fc40.x86_64
initrd /initramfs-6.9.4-200.fc40.x86_64.img $tuned_initrd
options root=UUID=1-2 ro rootflags=subvol=root ${kernelopts} $absent
options console=ttyS0
grub_users $grub_users
machine-id 0123

"""


def tree_of(files: dict[str, str]) -> Tree:
    tree = Tree()
    for path, text in files.items():
        tree.add(path.encode(), Node(stat.S_IFREG | 0o644, size=len(text), data=text.encode()))
    return tree


def names(files: dict[str, str], boot: bytes = b"") -> list[str]:
    return [entry.name for entry in bls.entries(tree_of(files), boot)]


def entry(**keys: str) -> str:
    return "".join(f"{key.replace('_', '-')} {value}\n" for key, value in keys.items())


def test_what_an_entry_says() -> None:
    found = bls.parse("0123-6.9.4.conf", FEDORA.encode(), {"kernelopts": "quiet"})
    assert found == bls.Entry(
        name="0123-6.9.4",
        title="Fedora Linux (6.9.4-200.fc40.x86_64) 40 (Cloud Edition)",
        version="6.9.4-200.fc40.x86_64",
        machine_id="0123",
        linux="/vmlinuz-6.9.4-200.fc40.x86_64",
        initrd=("/initramfs-6.9.4-200.fc40.x86_64.img",),
        options="root=UUID=1-2 ro rootflags=subvol=root quiet console=ttyS0",
    )


def test_several_initrds_are_in_their_order() -> None:
    assert bls.parse("a.conf", b"initrd /one\nlinux /l\ninitrd /two\n", {}).initrd == ("/one", "/two")


@pytest.mark.parametrize(
    ("name", "plain", "bad"),
    [("a+3.conf", "a", False), ("a+0-3.conf", "a", True), ("a+2-1.conf", "a", False), ("a+b.conf", "a+b", False)],
)
def test_counters_of_attempts(name: str, plain: str, *, bad: bool) -> None:
    found = bls.parse(name, b"", {})
    assert (found.name, found.bad) == (plain, bad)


@pytest.mark.parametrize("text", [b"", b"\n\n", b"linux", b"\xff\xfe \0", b"=\n= =\n", b"linux \xff\n"])
def test_odd_texts(text: bytes) -> None:
    assert bls.parse("a.conf", text, {}).name == "a"


class TestOrder:
    def test_the_newest_first(self) -> None:
        files = {f"loader/entries/m-6.{number}.0.conf": entry(version=f"6.{number}.0") for number in (9, 10, 2)}
        assert names(files) == ["m-6.10.0", "m-6.9.0", "m-6.2.0"]

    def test_by_name_without_a_version(self) -> None:
        files = {f"loader/entries/ostree-{number}-fcos.conf": "linux /x\n" for number in (1, 10, 9)}
        assert names(files) == ["ostree-10-fcos", "ostree-9-fcos", "ostree-1-fcos"]

    def test_those_with_a_sort_key_come_first(self) -> None:
        files = {
            "loader/entries/a.conf": entry(version="9"),
            "loader/entries/b.conf": entry(version="1", sort_key="debian"),
            "loader/entries/c.conf": entry(version="1", sort_key="arch"),
            "loader/entries/d.conf": entry(version="2", sort_key="debian"),
        }
        assert names(files) == ["c", "d", "b", "a"]

    def test_rescue_and_what_failed_come_last(self) -> None:
        files = {
            "loader/entries/m-0-rescue.conf": entry(version="0-rescue-1"),
            "loader/entries/m-8+0-3.conf": entry(version="8"),
            "loader/entries/m-7.conf": entry(version="7"),
        }
        assert names(files) == ["m-7", "m-0-rescue", "m-8"]

    def test_what_was_chosen_last(self) -> None:
        files = {f"loader/entries/m-{number}.conf": entry(version=str(number)) for number in (1, 2, 3)}
        files["grub2/grubenv"] = "# GRUB Environment Block\nsaved_entry=m-2\n"
        assert names(files) == ["m-2", "m-3", "m-1"]

    @pytest.mark.parametrize("pattern", ["m-2", "m-2.conf", "*-2*"])
    def test_what_the_settings_say(self, pattern: str) -> None:
        files = {f"loader/entries/m-{number}.conf": entry(version=str(number)) for number in (1, 2, 3)}
        files["loader/loader.conf"] = f"timeout 3\ndefault {pattern}\n"
        assert names(files) == ["m-2", "m-3", "m-1"]


class TestPlaces:
    def test_below_a_folder_and_through_links_as_ostree_has_them(self) -> None:
        tree = tree_of({"boot/loader.1/entries/ostree-1.conf": "linux /ostree/x\n"})
        tree.add(b"boot/loader", Node(stat.S_IFLNK | 0o777, target=b"loader.1"))
        tree.add(b"boot/loader.1/entries/folder.conf", Node(stat.S_IFDIR | 0o755))
        tree.add(b"boot/loader.1/entries/nowhere.conf", Node(stat.S_IFLNK | 0o777, target=b"nowhere"))
        assert [each.name for each in bls.entries(tree, b"/boot/")] == ["ostree-1"]

    @pytest.mark.parametrize("files", [{}, {"loader/entries": ""}, {"loader": ""}, {"loader/entries/x.txt": ""}])
    def test_none(self, files: dict[str, str]) -> None:
        assert names(files) == []


class TestBounds:
    def test_entries(self) -> None:
        with pytest.raises(LimitExceeded, match="257 boot entries"):
            names({f"loader/entries/{number}.conf": "" for number in range(257)})

    def test_a_long_entry(self) -> None:
        with pytest.raises(LimitExceeded, match=r"'loader/entries/a.conf' has 70000 bytes"):
            names({"loader/entries/a.conf": "x" * 70_000})

    def test_variables_in_great_numbers(self) -> None:
        text = b"options " + b"$a " * 10_000
        with pytest.raises(LimitExceeded, match="with its variables"):
            bls.parse("a.conf", text, {"a": "x" * 60_000})
