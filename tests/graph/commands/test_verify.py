"""`doit verify` through the real `doit` program."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.disks import damage, qcow2
from tests.kit.project import MiB, disk

if TYPE_CHECKING:
    from tests.kit.project import Project


def findings(project: Project, *words: str, status: int = 0, **environ: str) -> dict[str, dict[str, Any]]:
    result = project.doit("verify", "--json", *words, **environ)
    assert result.status == status, result
    document = json.loads(result.out)
    return {f"{each['kind']}:{each['image']}": each for each in document["artifacts"]}


@pytest.fixture
def all_three(project: Project) -> Project:
    """Return a project with an image of which wrapper, content and RAW are cached."""
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz", derive=["fetch", "content", "raw"])
    project.ok("raw:a", "content:a", "fetch:a")
    return project


class TestVerify:
    def test_what_is_intact(self, all_three: Project) -> None:
        assert all_three.ok("verify").count("ok ") == 3
        assert all_three.ok("verify", "--repair").count("ok ") == 3

    def test_what_is_damaged(self, project: Project) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz", derive=["fetch", "raw"])
        project.ok("raw:a", "fetch:a")
        damage(project.entry("a") / "disk.raw")
        found = findings(project, status=1)
        assert found["fetch:a"]["damage"] is None
        assert "blkhash" in found["raw:a"]["damage"]
        assert "DAMAGED" in project.doit("verify", "a").out

    def test_what_another_process_deletes_or_replaces_meanwhile_is_not_damaged(self, all_three: Project) -> None:
        all_three.hook(
            "import dataclasses, os\n"
            "from recipes.derive import verify\n"
            "real = verify.damage\n"
            "seen = set()\n"
            "def damage(entry, receipt, **more):\n"
            "    if receipt.kind not in seen and receipt.kind != 'fetch':\n"
            "        seen.add(receipt.kind)\n"
            "        path = entry.path / f'{receipt.kind}.json'\n"
            "        if receipt.kind == 'raw':\n"
            "            path.unlink()\n"
            "            entry.artifact('raw').unlink()\n"
            "        else:\n"
            "            os.truncate(entry.artifact('content'), 0)\n"
            "            text = path.read_text()\n"
            "            found = real(entry, receipt, **more)\n"
            "            os.truncate(entry.artifact('content'), receipt.artifact.size)\n"
            "            entry.artifact('content').write_bytes(entry.artifact('fetch').read_bytes())\n"
            '            path.write_text(text.replace(\'"made": "2\', \'"made": "3\'))\n'
            "            return found\n"
            "    return real(entry, receipt, **more)\n"
            "verify.damage = damage\n"
        )
        found = findings(all_three, status=1)
        assert set(found) == {"fetch:a", "content:a"}, "the RAW was deleted"
        assert found["fetch:a"]["damage"] is None
        assert "expected" in found["content:a"]["damage"], "held against the receipt that is there"

    def test_data_in_what_was_a_hole(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        raw = project.entry("a") / "disk.raw"
        raw.chmod(0o644)
        with raw.open("r+b") as file:
            file.seek(2 * MiB - 1)
            file.write(b"x")
        assert project.doit("verify").status == 1

    def test_what_cannot_be_read(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        project.hook(
            "import os\ndef failing(*arguments):\n    raise OSError(5, 'Input/output error')\nos.preadv = failing"
        )
        result = project.doit("verify")
        assert result.status == 1
        assert "cannot be read: Input/output error" in result.out

    def test_nothing(self, project: Project) -> None:
        project.declare("a", disk("a"))
        assert "nothing is cached" in project.ok("verify")

    def test_a_name_that_nobody_knows(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit("verify", "b")
        assert result.status == 3
        assert "'b'" in result.err


def qcow2_project(project: Project, **image: Any) -> bytes:
    """Declare a compressed QCOW2, whose wrapper, content and RAW are three files; return its RAW."""

    wrapper, raw = qcow2("a")
    project.declare("a", gzip.compress(wrapper, mtime=0), "a.qcow2.gz", **image)
    return raw


class TestRepair:
    @pytest.mark.parametrize("kept", [["raw", "content"], ["raw", "fetch"], ["raw", "content", "fetch"]])
    def test_from_the_nearest_input(self, project: Project, kept: list[str]) -> None:
        raw = qcow2_project(project, derive=kept)
        project.ok(*(f"{kind}:a" for kind in kept))
        shutil.rmtree(project.upstream)
        entry = project.entry("a")
        before = project.files("a")
        damage(entry / "disk.raw")
        found = findings(project, "--repair")
        assert found["raw:a"]["repaired"]
        assert (entry / "disk.raw").read_bytes() == raw
        assert project.files("a") == before, "what was made on the way is released"
        assert project.executed(*(f"{kind}:a" for kind in kept)) == set()

    @pytest.mark.parametrize(
        "harmed", [["wrapper"], ["content"], ["wrapper", "disk.raw"], ["wrapper", "content", "disk.raw"]]
    )
    def test_inputs_are_verified_before_they_are_used(self, project: Project, harmed: list[str]) -> None:
        raw = qcow2_project(project, derive=["raw", "content", "fetch"])
        project.ok("raw:a", "content:a", "fetch:a")
        before = {path.name: path.read_bytes() for path in project.entry("a").iterdir() if path.suffix == ""}
        for name in harmed:
            damage(project.entry("a") / name)
        text = project.doit("verify", "--repair", "a")
        assert text.status == 0, text
        assert text.out.count("repaired ") == len(harmed)
        assert all(not each["damage"] for each in findings(project).values())
        for name, data in before.items():
            assert (project.entry("a") / name).read_bytes() == data
        assert (project.entry("a") / "disk.raw").read_bytes() == raw

    def test_from_upstream(self, project: Project) -> None:
        raw = qcow2_project(project)
        project.ok("raw:a")
        damage(project.entry("a") / "disk.raw")
        assert "repaired raw:a (x86_64) in " in project.ok("verify", "--repair")
        assert (project.entry("a") / "disk.raw").read_bytes() == raw
        assert project.files("a") == {"disk.raw", "raw.json"}

    def test_what_cannot_be_had_stays_damaged(self, project: Project) -> None:
        qcow2_project(project)
        project.ok("raw:a")
        raw = project.entry("a") / "disk.raw"
        damage(raw)
        inode = raw.stat().st_ino
        upstream = (project.upstream / "a.qcow2.gz").read_bytes()
        (project.upstream / "a.qcow2.gz").write_bytes(b"something else")
        found = findings(project, "--repair", status=1)
        assert "fetch:a" in found["raw:a"]["obstacle"]
        assert raw.stat().st_ino == inode, "until another takes its place"
        assert project.doit("path", "raw:a").status == 1, "it is not handed out"
        assert "cannot be repaired" in project.doit("verify", "--repair").out
        (project.upstream / "a.qcow2.gz").write_bytes(upstream)
        assert findings(project, "--repair")["raw:a"]["repaired"]

    def test_what_nobody_declares(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.declare("b", disk("b"))
        project.ok("raw:a", "raw:b")
        del project.declared["a"]
        project.write()
        damage(project.entry("a") / "disk.raw")
        found = findings(project, "--repair", status=1)
        assert "does not declare it" in found["raw:a"]["obstacle"]
        assert (project.entry("a") / "raw.json").exists()

    @pytest.mark.parametrize("shared", [True, False])
    def test_from_another_image_with_the_same_bytes(self, project: Project, shared: bool) -> None:
        data = gzip.compress(disk("same"), mtime=0)
        for name in "ab":
            project.declare(name, data, f"{name}.raw.gz")
        project.ok("raw:a")
        project.ok("raw:b")
        a, b = (project.entry(name) / "disk.raw" for name in "ab")
        assert a.samefile(b)
        if not shared:
            status = b.stat()
            copy = b.read_bytes()
            b.unlink()
            b.write_bytes(copy)
            b.chmod(0o444)
            os.utime(b, ns=(status.st_atime_ns, status.st_mtime_ns))
            (project.upstream / "a.raw.gz").unlink()
        damage(a)
        found = findings(project, "--repair", "a")
        assert found["raw:a"]["repaired"]
        assert ("raw:b" in found) == shared or not found["raw:b"]["damage"]
        if shared:
            assert found["raw:b"]["repaired"], "it was the same file"
        assert a.samefile(b)
        assert all(not each["damage"] for each in findings(project).values())

    def test_an_image_of_another_architecture(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        damage(project.entry("a") / "disk.raw")
        text = (project.folder / "images.toml").read_text()
        (project.folder / "images.toml").write_text(text + text.split("\n", 1)[1].replace("x86_64", "aarch64"))
        assert findings(project, "--repair", LARDER_ARCH="aarch64")["raw:a"]["repaired"]

    def test_one_that_is_in_use(self, project: Project) -> None:
        import filelock

        project.declare("a", disk("a"))
        project.ok("raw:a")
        damage(project.entry("a") / "disk.raw")
        with filelock.FileLock(project.entry("a") / ".lock"):
            found = findings(project, "--repair", status=1)
        assert "in use" in found["raw:a"]["obstacle"]

    def test_an_artifact_without_a_receipt(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        (project.entry("a") / "raw.json").unlink()
        assert findings(project, "--repair")["raw:a"]["repaired"]

    def test_a_kill_in_the_middle(self, project: Project) -> None:
        raw = qcow2_project(project)
        project.ok("raw:a")
        damage(project.entry("a") / "disk.raw")
        environ = dict(project.environ)
        project.hook(
            "import os\nfrom recipes.cache.store import Held\nHeld.publish = lambda *a: os.kill(os.getpid(), 9)"
        )
        assert project.doit("verify", "--repair").status == -9
        project.environ = environ
        assert project.doit("path", "raw:a").status == 1, "what is damaged is not handed out"
        project.ok("raw:a")
        assert (project.entry("a") / "disk.raw").read_bytes() == raw
