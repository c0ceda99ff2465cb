"""`doit clone:NAME`, through the real `doit` program."""

from __future__ import annotations

import gzip
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.oracles import need
from tests.kit.project import DOIT, MiB, disk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project


@pytest.fixture
def vm(tmp_path: Path) -> Path:
    (tmp_path / "vm").mkdir()
    return tmp_path / "vm"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def row(project: Project, kind: str = "raw") -> dict[str, Any]:
    document = json.loads(project.ok("status", "--json", "a"))
    found: dict[str, Any] = next(each for each in document["artifacts"] if each["kind"] == kind)
    return found


class TestDerives:
    def test_what_is_missing_once(self, project: Project, vm: Path) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz", derive=[])
        first = project.executed("clone:a", "--to", str(vm / "1"))
        assert first == {"resolve:a", "fetch:a", "content:a", "raw:a", "clone:a"}
        # What a clone is made from counts as asked for.
        assert {"disk.raw", "raw.json"} <= project.files("a")
        assert not {"wrapper", "content"} & project.files("a")
        assert project.executed("clone:a", "--to", str(vm / "2")) == {"clone:a"}
        assert (vm / "1").read_bytes() == (vm / "2").read_bytes() == disk("a")
        assert row(project)["asked"]

    def test_what_the_format_needs(self, project: Project, vm: Path) -> None:
        data = gzip.compress(disk("a"))
        project.declare("a", data, "a.raw.gz")
        assert project.executed("clone:a", "--to", str(vm / "gz"), "--format", "fetch") == {
            "resolve:a",
            "fetch:a",
            "clone:a",
        }
        assert (vm / "gz").read_bytes() == data
        assert "raw:a" not in project.executed("clone:a", "--to", str(vm / "content"), "--format=content")
        assert (vm / "content").read_bytes() == disk("a")
        assert "raw:a" in project.executed("clone:a", "--to", str(vm / "disk"), "--format", "qcow2")
        assert names(vm) == {"gz", "content", "disk", "disk.base.raw"}

    def test_nothing_where_the_command_line_is_wrong(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        (vm / "there").write_bytes(b"precious")
        for words, message in (
            (["clone:a"], "larder clone:a --to PATH"),
            (["clone"], "larder clone:NAME --to PATH"),
            (["clone:a", "--to", str(vm / "there")], "--force replaces it"),
            (["clone:a", "--to", str(project.cache / "disk")], "is in the cache"),
            (["clone:a", "--to", str(vm / "x"), "--size", "much"], "expected a size"),
            (["clone:a", "--to", str(vm / "x"), "--size", "1G", "--format", "fetch"], "not for fetch"),
            (["clone:a", "--to", str(vm / "x"), "--mode", "link"], "'hardlink'"),
            (["clone:a", "--too", str(vm / "x")], "there is no option --too; did you mean --to?"),
            (["clone:a", "--to", str(vm / "x"), "--mode", "hardlink"], "--format qcow2"),
            (["clone:a", "--to", str(vm / "x"), "--format", "vdi"], "but as raw, qcow2, fetch"),
            (["clone:a", "--to", str(vm / "x"), "clone:a", "--to", str(vm / "y")], "named twice"),
            (["clone:b", "--to", str(vm / "x")], "clone:b"),
        ):
            result = project.doit(*words)
            assert result.status == 3, (words, result)
            assert message in result.err, words
            assert "Traceback" not in result.err
        assert not project.entry("a").exists()
        assert names(vm) == {"there"}

    def test_only_what_the_kind_of_image_has(self, project: Project, vm: Path) -> None:
        project.declare("a", b"tar", "a.tar", kind="rootfs")
        result = project.doit("clone:a", "--to", str(vm / "x"), "--format", "raw")
        assert result.status == 3
        assert "a tarball cannot be cloned as raw, but as rootfs" in result.err

    def test_or_fails_with_one_message(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        project.serve("a.img", disk("other"))
        result = project.doit("clone:a", "--to", str(vm / "x"))
        assert result.status == 1
        assert (result.out + result.err).count("fetch:a") >= 1
        assert "Traceback" not in result.out + result.err
        assert names(vm) == set()

    def test_an_image_of_another_architecture(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        result = project.doit("clone:a", "--to", str(vm / "x"), LARDER_ARCH="aarch64")
        assert result.status == 3
        assert "a is not declared for aarch64, only for x86_64" in result.err


class TestClones:
    def test_says_what_it_did(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        out = project.ok("clone:a", "--to", str(vm / "disk"), "--mode", "copy", "--size", "1G")
        taken = (vm / "disk").stat().st_blocks // 2
        assert f"clone:a: {vm / 'disk'}: copy, 1.0 GiB, {taken}.0 KiB of new space, in 0." in out
        assert (vm / "disk").stat().st_size == 1 << 30
        out = project.ok("clone:a", "--to", str(vm / "over"), "--format", "qcow2")
        assert f"{vm / 'over'}: overlay on over.base.raw (hardlink), 2.0 MiB, " in out

    def test_smaller_than_the_artifact(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        result = project.doit("clone:a", "--to", str(vm / "disk"), "--size", "1M")
        assert result.status == 1
        assert "1.0 MiB (1048576 bytes) is too small: disk.raw has 2.0 MiB (2097152 bytes)" in result.out
        assert names(vm) == set()

    def test_relative_to_where_doit_was_called(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        subprocess.run(
            [DOIT, "-f", project.folder / "dodo.py", "clone:a", "--to", "disk"],
            cwd=vm,
            env=project.environ,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        assert names(vm) == {"disk"}

    def test_several_in_one_run(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        project.declare("b", disk("b"))
        words = ["clone:a", "--to", f"{vm}/a1", "--to", f"{vm}/a2", "raw:b", "clone:b", "--to", f"{vm}/b"]
        project.ok("run", "-n", "2", *words)
        assert {name: (vm / name).read_bytes() for name in names(vm)} == {
            "a1": disk("a"),
            "a2": disk("a"),
            "b": disk("b"),
        }

    def test_several_processes_at_once(self, project: Project, vm: Path) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
        running = [
            subprocess.Popen(
                [DOIT, "clone:a", "--to", str(vm / name), "--format", "qcow2"],
                cwd=project.folder,
                env=project.environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            # Two of them are after the same name.
            for name in ("1", "2", "3", "3")
        ]
        outputs = [process.communicate(timeout=120)[0] for process in running]
        statuses = [process.returncode for process in running]
        assert statuses[:2] == [0, 0], outputs
        assert statuses[2:].count(0) == 1, outputs
        assert any(b"exists already" in output for output in outputs[2:])
        assert names(vm) == {name for number in "123" for name in (number, f"{number}.base.raw")}
        need("qemu-img")
        for number in "123":
            subprocess.run(["qemu-img", "check", "-q", vm / number], check=True)

    def test_nothing_in_the_cache_is_touched(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        raw = project.entry("a") / "disk.raw"
        before = (raw.read_bytes(), raw.stat().st_mtime_ns, raw.stat().st_mode)
        for form in ("raw", "qcow2"):
            project.ok("clone:a", "--to", str(vm / form), "--format", form)
        (vm / "raw").write_bytes(b"written")
        assert (raw.read_bytes(), raw.stat().st_mtime_ns, raw.stat().st_mode) == before
        assert project.executed("raw:a") == set()
        project.ok("verify")

    def test_an_instance_does_not_depend_on_the_cache(self, project: Project, vm: Path) -> None:
        need("qemu-img")
        project.declare("a", disk("a"))
        project.ok("clone:a", "--to", str(vm / "disk"), "--format", "qcow2")
        # Made anew, of other bytes, and deleted.
        project.ok("-a", "raw:a")
        project.declare("a", disk("new"))
        project.ok("raw:a")
        project.ok("clean", "raw:a")
        assert (vm / "disk.base.raw").read_bytes() == disk("a")
        subprocess.run(["qemu-img", "check", "-q", vm / "disk"], check=True)

    def test_force(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        project.declare("b", disk("b"))
        for form, base in (("raw", "disk"), ("qcow2", "disk.base.raw")):
            for name in ("a", "b"):
                project.ok(f"clone:{name}", "--to", str(vm / "disk"), "--force", "--format", form)
                assert (vm / base).read_bytes() == disk(name)

    def test_all_of_an_image_is_no_clone(self, project: Project) -> None:
        project.declare("a", disk("a"))
        assert project.executed("c*:a") == {"resolve:a", "fetch:a", "content:a"}

    def test_is_listed_and_explained(self, project: Project) -> None:
        project.declare("a", disk("a"), title="An image")
        assert "clone:a" in project.ok("list", "--all")
        text = project.ok("help", "clone:a")
        for option in ("--to", "--format", "--size", "--mode", "--force"):
            assert option in text


class TestTheSuffix:
    def test_decides_unless_a_format_does(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        project.ok("clone:a", "--to", str(vm / "new" / "disk.qcow2"))
        assert names(vm / "new") == {"disk.qcow2", "disk.qcow2.base.raw"}
        assert (vm / "new" / "disk.qcow2").read_bytes()[:4] == b"QFI\xfb"
        project.ok("clone:a", "--to", str(vm / "disk.qcow2"), "--format", "raw")
        assert (vm / "disk.qcow2").read_bytes() == disk("a")

    def test_of_several_clones_is_one(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        result = project.doit("clone:a", "--to", str(vm / "1.qcow2"), "--to", str(vm / "2.raw"))
        assert result.status == 3
        assert "the suffixes of --to say qcow2 or raw" in result.err
        assert names(vm) == set()

    def test_of_what_an_image_does_not_have(self, project: Project, vm: Path) -> None:
        project.declare("a", b"tar", "a.tar", kind="rootfs")
        result = project.doit("clone:a", "--to", str(vm / "1.qcow2"))
        assert result.status == 3
        assert "a tarball cannot be cloned as qcow2, but as rootfs" in result.err


class TestStatus:
    def test_of_an_artifact_without_clones(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        assert "CLONES" not in project.ok("status")
        found = row(project)
        assert (found["clones"], found["shared"], found["saved"]) == ([], 0, 0)

    def test_of_clones(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        project.ok("clone:a", "--to", f"{vm}/1", "--to", f"{vm}/2", "--format", "qcow2", "--mode", "hardlink")
        project.ok("clone:a", "--to", f"{vm}/3", "--mode", "copy")
        found = row(project)
        taken = found["allocated"]
        overlays = [(vm / name).stat().st_blocks * 512 for name in "12"]
        assert [each["path"] for each in found["clones"]] == [str(vm / name) for name in "123"]
        assert [each["saved"] for each in found["clones"]] == [*(taken - overlay for overlay in overlays), 0]
        assert (found["shared"], found["saved"]) == (taken, 2 * taken - sum(overlays))
        text = project.ok("status")
        assert "CLONES" in text
        assert "clones save" in text
        assert max(map(len, text.splitlines()[:2])) <= 110
        totals = json.loads(project.ok("status", "--json"))["totals"]
        assert (totals["clones"], totals["saved"]) == (3, found["saved"])

    def test_of_clones_that_are_gone(self, project: Project, vm: Path) -> None:
        project.declare("a", disk("a"))
        project.ok("clone:a", "--to", str(vm / "1"))
        (vm / "1").rename(vm / "moved")
        assert row(project)["clones"] == []


def test_a_step_alone(tmp_path: Path) -> None:
    import sys

    (tmp_path / "disk.raw").write_bytes(disk("a"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "recipes", "clone", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("disk.raw", "clone.raw", "--size", "1G")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clone.raw").stat().st_size == 1 << 30
    assert done.stdout.startswith("clone.raw: ")
    done = run("disk.raw", "clone.raw")
    assert (done.returncode, done.stderr) == (1, "clone.raw exists already\n  hint: --force replaces it\n")
    assert run("disk.raw", "over.qcow2", "--format", "qcow2").returncode == 0
    assert (tmp_path / "over.qcow2.base.raw").read_bytes() == disk("a")
    done = run("over.qcow2", "other")
    assert done.returncode == 1
    assert "expected a RAW disk, found a disk image in the format qcow2" in done.stderr
    assert (tmp_path / "disk.raw").stat().st_size == 2 * MiB
