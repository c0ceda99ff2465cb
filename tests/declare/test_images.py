from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from recipes.declare.findings import Findings
from recipes.declare.images import COMMANDS, DEFAULT_DERIVE, ImageReader
from recipes.kinds import DERIVABLE
from recipes.rootplace import ANYWHERE

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.model import Arch, Image, Kind

SHA = "sha256:" + "0f" * 32


def source(name: str = "a.img", **more: Any) -> dict[str, Any]:
    return {"url": f"https://h.example/{name}", "digest": SHA, **more}


def read(folder: Path, **entries: Any) -> tuple[dict[Arch, Image], list[str]]:
    """Return the images, and what is wrong: the key, and what is said."""
    findings = Findings()
    images = ImageReader(findings, folder).read("a", entries)
    return images, [f"{'.'.join(map(str, problem.path[2:]))}: {problem.message}" for problem in findings.problems]


def names(folder: Path, *found: str) -> list[str]:
    findings = Findings()
    ImageReader(findings, folder).names(dict.fromkeys(found))
    return [problem.message for problem in findings.problems]


class TestNames:
    @pytest.mark.parametrize("name", ["a", "0", "debian-13", "a.b_c+d", "x86"])
    def test_that_are_right(self, tmp_path: Path, name: str) -> None:
        assert names(tmp_path, name) == []

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("Debian", "expected a name in lower case: debian"),
            ("-a", "expected a name of letters a-z"),
            (".a", "expected a name of letters"),
            ("a b", "expected a name of letters"),
            ("a/b", "expected a name of letters"),
            ("ä", "expected a name of letters"),
            ("", "expected a name of letters"),
            ("list", "doit has a command called list"),
            ("prune", "doit has a command called prune"),
        ],
    )
    def test_that_are_not(self, tmp_path: Path, name: str, said: str) -> None:
        (found,) = names(tmp_path, name)
        assert said in found

    def test_that_would_share_a_folder(self, tmp_path: Path) -> None:
        assert names(tmp_path, "a", "A") == [
            "differs from a only in case, and the two would share a folder where case is ignored"
        ]

    def test_every_command_is_taken(self, tmp_path: Path) -> None:
        assert len(names(tmp_path, *sorted(COMMANDS))) == len(COMMANDS)


class TestKinds:
    @pytest.mark.parametrize(
        ("name", "kind"), [("a.img", "disk"), ("a.tar.gz", "rootfs"), ("a.bin", "disk"), ("a.tgz", "rootfs")]
    )
    def test_a_name_is_a_default(self, tmp_path: Path, name: str, kind: Kind) -> None:
        images, wrong = read(tmp_path, x86_64=source(name))
        assert (images["x86_64"].kind, wrong) == (kind, [])
        assert images["x86_64"].derive == DEFAULT_DERIVE[kind]

    @pytest.mark.parametrize("declared", ["disk", "rootfs", "oci"])
    def test_what_is_declared_counts(self, tmp_path: Path, declared: str) -> None:
        images, wrong = read(tmp_path, kind=declared, x86_64=source("a.tar"))
        assert (images["x86_64"].kind, wrong) == (declared, [])

    def test_what_is_asked_for_by_digest_is_an_image(self, tmp_path: Path) -> None:
        images, wrong = read(tmp_path, x86_64={"url": "oci://r.test/a:1"})
        assert (images["x86_64"].kind, wrong) == ("oci", [])
        _, wrong = read(tmp_path, kind="rootfs", x86_64={"url": "oci://r.test/a:1"})
        assert wrong == ['kind: contradicts "oci://r.test/a:1", which is an image in a registry']
        _, wrong = read(tmp_path, kind="oci", x86_64=source("a.img"))
        assert len(wrong) == 1
        assert "which ends like a disk" in wrong[0]

    def test_architectures_that_differ(self, tmp_path: Path) -> None:
        _, wrong = read(tmp_path, x86_64=source("a.img"), aarch64=source("a.tar"))
        assert wrong == ['aarch64.url: ends like a rootfs, and "https://h.example/a.img" ends like a disk']


class TestArchitectures:
    def test_each_is_an_image(self, tmp_path: Path) -> None:
        images, wrong = read(tmp_path, title="T", prewarm=True, x86_64=source(), aarch64=source("b.img"))
        assert wrong == []
        assert {arch: image.source.urls[0][-5:] for arch, image in images.items()} == {
            "x86_64": "a.img",
            "aarch64": "b.img",
        }
        assert {(image.name, image.title, image.prewarm) for image in images.values()} == {("a", "T", True)}

    @pytest.mark.parametrize(
        ("key", "hint"), [("amd64", "write x86_64"), ("arm64", "write aarch64"), ("x86-64", "write x86_64")]
    )
    def test_by_another_name(self, tmp_path: Path, key: str, hint: str) -> None:
        _, wrong = read(tmp_path, **{key: source()})
        assert wrong == [f"{key}: unknown architecture; {hint}"]

    def test_that_are_none_of_ours(self, tmp_path: Path) -> None:
        _, wrong = read(tmp_path, mips={})
        assert wrong == ["mips: unknown architecture; expected x86_64 or aarch64"]

    def test_none(self, tmp_path: Path) -> None:
        _, wrong = read(tmp_path, title="x")
        assert wrong == [": has no architecture; expected a table such as [images.a.x86_64]"]

    def test_keys_a_floor_too_high(self, tmp_path: Path) -> None:
        _, wrong = read(tmp_path, url="x", x86_64=source())
        assert wrong == ["url: belongs in the table of an architecture, such as [images.a.x86_64]"]


class TestDerive:
    @pytest.mark.parametrize("kind", ["disk", "rootfs", "oci"])
    def test_what_the_kind_has(self, tmp_path: Path, kind: Kind) -> None:
        wanted = list(DERIVABLE[kind])
        images, wrong = read(tmp_path, kind=kind, derive=wanted, x86_64=source("a.bin"))
        assert (list(images["x86_64"].derive), wrong) == (wanted, [])

    def test_what_it_has_not(self, tmp_path: Path) -> None:
        _, wrong = read(tmp_path, kind="rootfs", derive=["raw"], x86_64=source("a.tar"))
        assert len(wrong) == 1
        assert wrong[0].startswith('derive.0: an image of kind rootfs has no "raw"; expected ')

    def test_nothing_and_twice(self, tmp_path: Path) -> None:
        images, wrong = read(tmp_path, derive=[], x86_64=source())
        assert (images["x86_64"].derive, wrong) == ((), [])
        images, wrong = read(tmp_path, derive=["raw", "raw"], x86_64=source())
        assert (images["x86_64"].derive, wrong) == (("raw",), ['derive.1: "raw" is listed twice'])


@pytest.mark.parametrize("size", ["63 MiB", "16 TiB", (64 << 20) + 1])
def test_sizes_that_no_vhdx_has(tmp_path: Path, size: object) -> None:
    _, wrong = read(tmp_path, **{"vhdx-size": size}, x86_64=source())
    assert len(wrong) == 1
    assert "expected whole MiB from 64.0 MiB up to and without 16 TiB" in wrong[0]


def test_a_folder_is_taken_off_tarballs_only(tmp_path: Path) -> None:
    assert read(tmp_path, x86_64=source("a.tar", strip="root"))[1] == []
    _, wrong = read(tmp_path, x86_64=source("a.img", strip="root"))
    assert wrong == ['x86_64.strip: is for a tarball, kind = "rootfs"; this is kind = "disk"']


def test_a_member_is_of_an_archive_with_a_disk(tmp_path: Path) -> None:
    images, wrong = read(tmp_path, x86_64=source("a.ova", member="*.vmdk"))
    assert (images["x86_64"].kind, images["x86_64"].source.member, wrong) == ("disk", "*.vmdk", [])
    _, wrong = read(tmp_path, x86_64=source("a.tar.gz", member="*.raw"))
    assert wrong == ['x86_64.member: is for a disk in an archive, kind = "disk"; this is kind = "rootfs"']
    assert read(tmp_path, kind="disk", x86_64=source("a.tar.gz", member="*.raw"))[1] == []


def test_disks_may_be_in_registries(tmp_path: Path) -> None:
    found = {"url": "oci://h.example/a:1", "disktype": "qemu"}
    images, wrong = read(tmp_path, kind="disk", x86_64=found)
    assert wrong == []
    assert (images["x86_64"].kind, images["x86_64"].source.disktype) == ("disk", "qemu")
    for kind, table in (("oci", found), ("disk", source("a.img", disktype="qemu"))):
        _, wrong = read(tmp_path, kind=kind, x86_64=table)
        assert wrong == ['x86_64.disktype: is for kind = "disk" with an oci:// url']


def test_where_the_root_of_a_disk_is(tmp_path: Path) -> None:
    images, wrong = read(tmp_path, root="partition 3, subvolume /@", x86_64=source())
    assert (str(images["x86_64"].root), wrong) == ("partition 3, subvolume @", [])
    assert read(tmp_path, x86_64=source())[0]["x86_64"].root == ANYWHERE
    _, wrong = read(tmp_path, root="3", x86_64=source())
    assert [each.split(" or ")[0] for each in wrong] == [
        'root: expected "partition N", "volume GROUP/NAME", "subvolume PATH"'
    ]
    _, wrong = read(tmp_path, root="partition 3", x86_64=source("a.tar.gz"))
    assert wrong == ['root: is for a disk; this is kind = "rootfs"']
