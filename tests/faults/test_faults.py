"""What the machine does to a cache: each ends in right bytes or in a clear error, and never in a traceback."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.debian import run
from tests.kit.disks import damage
from tests.kit.mounts import mounted
from tests.kit.oracles import lack, need
from tests.kit.project import MiB, Project, Result, disk

from .scenarios import tarball

if TYPE_CHECKING:
    from collections.abc import Iterator


def clear(result: Result, *expected: str) -> None:
    """Require that `result` is an error that says what is wrong."""
    said = result.out + result.err
    assert result.status != 0, said
    assert "Traceback" not in said
    for text in expected:
        assert text in said


def declare(project: Project, name: str = "a", seed: str = "a") -> Path:
    """Declare an image; return where its RAW will be."""
    project.declare(name, gzip.compress(disk(seed), mtime=0), f"{name}.raw.gz", derive=["raw", "fetch"])
    return project.entry(name) / "disk.raw"


def move(project: Project, cache: Path) -> None:
    """Have the cache somewhere else."""
    project.cache = cache
    project.environ["LARDER_CACHE"] = str(cache)


class TestAFullDisk:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Path]:
        need("mke2fs")
        image = tmp_path / "ext4"
        image.touch()
        os.truncate(image, 24 * MiB)
        subprocess.run(["mke2fs", "-q", "-F", "-m0", image], check=True)
        with mounted(image, "rw") as top:
            yield top

    #: KiB that are free, and the step that they are not enough for.
    ROOM = ((256, "fetch:"), (2048, "fetch:"), (7000, "content:"), (9000, "content:"), (14000, None))

    @pytest.mark.parametrize(("room", "fails"), ROOM)
    def test_of_every_size(self, project: Project, small: Path, room: int, fails: str | None) -> None:
        move(project, small / "cache")
        data = os.urandom(6 * MiB)
        project.declare("a", gzip.compress(data, 1), "a.raw.gz", derive=["raw"])
        project.ok("list")
        (small / "ballast").write_bytes(bytes(shutil.disk_usage(small).free - room * 1024))
        result = project.doit("raw:a")
        if fails:
            clear(result, fails, " left" if fails == "fetch:" else "No space left on device")
        else:
            assert result.status == 0, result
        assert not list(project.cache.rglob(".tmp-*"))
        (small / "ballast").unlink()
        project.ok("raw:a")
        assert (project.entry("a") / "disk.raw").read_bytes() == data
        assert project.files("a") == {"disk.raw", "raw.json"}

    @pytest.mark.parametrize(("room", "fails"), [(2048, "content:r"), (16000, None)])
    def test_while_containers_are_made(self, project: Project, small: Path, room: int, fails: str | None) -> None:
        move(project, small / "cache")
        project.declare("r", tarball(), "r.tar.gz", **{"vhdx-size": "64MiB"})
        project.ok("list")
        (small / "ballast").write_bytes(bytes(shutil.disk_usage(small).free - room * 1024))
        result = project.doit("oci:r", "vhdx:r")
        if fails:
            clear(result, fails, "No space left on device")
        else:
            assert result.status == 0, result
        (small / "ballast").unlink()
        project.ok("oci:r", "vhdx:r")
        project.ok("verify")


class TestAQuota:
    """There is room on the disk, and none for this cache: nothing says so before a write fails."""

    @pytest.fixture
    def limited(self, tmp_path: Path) -> Iterator[Path]:
        need("mkfs.btrfs", "btrfs")
        image = tmp_path / "btrfs"
        image.touch()
        os.truncate(image, 256 * MiB)
        run("mkfs.btrfs", "-q", image)
        with mounted(image, "rw") as top:
            run("btrfs", "subvolume", "create", top / "limited")
            run("btrfs", "quota", "enable", top)
            yield top / "limited"

    #: MiB that the quota allows, and the step that they are not enough for.
    ALLOWED = ((2, "fetch:"), (7, "content:"), (32, None))

    @pytest.mark.parametrize(("allowed", "fails"), ALLOWED)
    def test_of_every_size(self, project: Project, limited: Path, allowed: int, fails: str | None) -> None:
        move(project, limited / "cache")
        data = os.urandom(6 * MiB)
        project.declare("a", gzip.compress(data, 1), "a.raw.gz", derive=["raw"])
        project.ok("list")
        run("btrfs", "qgroup", "limit", f"{allowed}M", limited)
        result = project.doit("raw:a")
        if fails:
            clear(result, fails, "Disk quota exceeded", "free some space there")
        else:
            assert result.status == 0, result
        assert not list(project.cache.rglob(".tmp-*"))
        run("btrfs", "qgroup", "limit", "none", limited)
        project.ok("raw:a")
        assert (project.entry("a") / "disk.raw").read_bytes() == data
        assert project.files("a") == {"disk.raw", "raw.json"}


class TestACacheThatCannotBeWrittenTo:
    @pytest.fixture
    def other(self, project: Project, tmp_path: Path) -> Project:
        """Return a project with `a` cached, run by a user to whom the cache does not belong."""
        if os.geteuid() != 0:
            lack("becoming another user needs root")
        need("setpriv")
        declare(project)
        project.ok("raw:a")
        declare(project, "b", "b")
        # pytest keeps its folders to itself.
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & stat.S_IXOTH:
                folder.chmod(folder.stat().st_mode | 0o011)
        project.prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        return project

    def test_it_serves_what_it_has(self, other: Project, tmp_path: Path) -> None:
        for folder, _, _ in os.walk(other.cache):
            Path(folder).chmod(0o555)
        assert other.ok("raw:a") == "-- raw:a\n"
        assert other.ok("path", "raw:a").strip() == str(other.entry("a") / "disk.raw")
        other.ok("status")
        other.ok("verify")
        (tmp_path / "vm").mkdir(mode=0o777)
        (tmp_path / "vm").chmod(0o777)
        other.ok("clone:a", "--to", str(tmp_path / "vm" / "disk"))
        assert (tmp_path / "vm" / "disk").read_bytes() == disk("a")
        clear(other.doit("raw:b"), "Permission denied", "LARDER_CACHE")
        clear(other.doit("-a", "raw:a"), "Permission denied")

    def test_not_even_read(self, other: Project) -> None:
        other.cache.chmod(0o700)
        clear(other.doit("raw:a"), str(other.cache))
        clear(other.doit("status"), str(other.cache))

    def test_an_entry_that_is_somebody_elses(self, other: Project) -> None:
        for folder, _, _ in os.walk(other.cache):
            Path(folder).chmod(0o777)
        (other.cache / "doit.db").chmod(0o666)
        other.entry("a").chmod(0o700)
        clear(other.doit("raw:a"), "Permission denied")
        other.ok("raw:b")
        other.ok("prune")


class TestTheDatabase:
    """It is an index: whatever becomes of it, nothing is made again."""

    @pytest.mark.parametrize(
        "harm",
        ["pages", "no JSON", "a list", "another table", "junk", "cut", "a folder", "empty", "a dangling link"],
    )
    def test_that_is_broken(self, project: Project, harm: str) -> None:
        declare(project)
        project.ok("raw:a")
        file = project.cache / "doit.db"
        data = file.read_bytes()
        if harm == "pages":
            file.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
        elif harm in ("no JSON", "a list"):
            with closing(sqlite3.connect(file)) as database, database:
                database.execute("update doit set task_data = ?", ("[1" if harm == "no JSON" else "[1]",))
        elif harm == "cut":
            os.truncate(file, 50)
        elif harm == "junk":
            file.write_bytes(data[:16] + b"junk" * 100)
        else:
            file.unlink()
            if harm == "another table":
                with closing(sqlite3.connect(file)) as database, database:
                    database.execute("create table doit (something int)")
            elif harm == "a folder":
                file.mkdir()
            elif harm == "empty":
                file.touch()
            else:
                file.symlink_to("/nonexistent/larder")
        assert project.executed("raw:a") <= {"resolve:a"}
        assert project.executed("raw:a") <= {"resolve:a"}
        project.ok("status")
        project.ok("forget")

    def test_that_another_program_holds(self, project: Project) -> None:
        raw = declare(project)
        project.ok("list")
        project.ok("fetch:a")
        project.hook("import recipes.graph.database as ours\nours._BUSY_MILLISECONDS = 100")
        with closing(sqlite3.connect(project.cache / "doit.db")) as database:
            database.execute("begin exclusive")
            project.ok("raw:a")
        assert raw.read_bytes() == disk("a")

    def test_that_another_program_takes_meanwhile(self, project: Project) -> None:
        raw = declare(project)
        # It is held from the download on, for longer than anybody waits.
        project.hook(
            "import sqlite3, recipes.graph.database as ours, recipes.cache.store as store\n"
            "ours._BUSY_MILLISECONDS = 100\n"
            "publish = store.Held.publish\n"
            "held = []\n"
            "def taking(*arguments):\n"
            "    if not held:\n"
            f"        held.append(sqlite3.connect({str(project.cache / 'doit.db')!r}))\n"
            "        held[0].execute('begin exclusive')\n"
            "    return publish(*arguments)\n"
            "store.Held.publish = taking"
        )
        project.ok("raw:a")
        assert raw.read_bytes() == disk("a")
        assert project.files("a") == {"disk.raw", "raw.json", "wrapper", "fetch.json"}


class TestReceiptsThatLie:
    @pytest.mark.parametrize(
        ("section", "key", "value"),
        [
            ("artifact", "size", 5),
            ("artifact", "size", 1e400),
            ("artifact", "size", "many"),
            ("artifact", "mtime_ns", None),
            ("artifact", "mtime_ns", 1),
            ("artifact", "blkhash", {"digest": 1}),
            (None, "kind", "fetch"),
            (None, "kind", ["raw"]),
            (None, "key", "0" * 64),
            (None, "key", 7),
            (None, "identity", []),
            (None, "artifact", None),
            (None, "durations", 1),
            (None, "content", 5),
        ],
    )
    def test_nothing_wrong_is_handed_out(self, project: Project, section: str | None, key: str, value: object) -> None:
        raw = declare(project)
        project.ok("raw:a")
        file = project.entry("a") / "raw.json"
        receipt = json.loads(file.read_text())
        (receipt[section] if section else receipt)[key] = value
        file.write_text(json.dumps(receipt))
        for command in (("status",), ("list", "-s"), ("prune", "--dry-run")):
            project.ok(*command)
        project.ok("raw:a")
        assert raw.read_bytes() == disk("a")
        project.ok("verify")

    def test_a_receipt_of_another_kind(self, project: Project) -> None:
        raw = declare(project)
        project.ok("raw:a")
        shutil.copy(project.entry("a") / "fetch.json", project.entry("a") / "raw.json")
        project.ok("raw:a")
        assert raw.read_bytes() == disk("a")

    def test_a_digest_that_is_not_the_files(self, project: Project) -> None:
        raw = declare(project)
        project.ok("raw:a")
        file = project.entry("a") / "raw.json"
        receipt = json.loads(file.read_text())
        receipt["artifact"]["blkhash"]["hex"] = "0" * 64
        file.write_text(json.dumps(receipt))
        clear(project.doit("verify"), "DAMAGED")
        project.ok("verify", "--repair")
        project.ok("verify")
        assert raw.read_bytes() == disk("a")


class TestArtifactsThatChanged:
    def test_cut(self, project: Project) -> None:
        raw = declare(project)
        project.ok("raw:a")
        raw.chmod(0o644)
        os.truncate(raw, MiB)
        project.ok("raw:a")
        assert raw.read_bytes() == disk("a")

    def test_flipped_with_its_mtime_kept_is_found_by_verify(self, project: Project) -> None:
        raw = declare(project)
        project.ok("raw:a")
        damage(raw)
        clear(project.doit("verify"), "DAMAGED")
        project.ok("verify", "--repair")
        assert raw.read_bytes() == disk("a")

    @pytest.mark.parametrize("what", ["folder", "dangling", "loop", "fifo"])
    def test_not_even_a_file(self, project: Project, what: str) -> None:
        raw = declare(project)
        project.ok("raw:a")
        raw.unlink()
        if what == "folder":
            raw.mkdir()
        elif what == "fifo":
            os.mkfifo(raw)
        else:
            raw.symlink_to("nowhere" if what == "dangling" else raw)
        result = project.doit("raw:a")
        assert "Traceback" not in result.out + result.err
        if what == "folder":
            clear(result, "Is a directory")
            raw.rmdir()
            project.ok("raw:a")
        assert raw.read_bytes() == disk("a")


class TestTheClock:
    @pytest.mark.parametrize("seconds", [-20 * 365 * 86400, 50 * 365 * 86400])
    def test_jumps(self, project: Project, seconds: int) -> None:
        raw = declare(project)
        project.ok("raw:a")
        project.hook(
            "import time\nnow, now_ns = time.time, time.time_ns\n"
            f"time.time = lambda: now() + {seconds}\n"
            f"time.time_ns = lambda: now_ns() + {seconds} * 10**9"
        )
        assert project.executed("raw:a") <= {"resolve:a"}
        project.ok("status")
        project.ok("prune", "--older-than", "1d")
        declare(project, "b", "b")
        project.ok("raw:b")
        project.ok("-a", "raw:a")
        assert raw.read_bytes() == disk("a")
        del project.environ["PYTHONPATH"]
        assert project.executed("raw:a", "raw:b") <= {"resolve:a", "resolve:b"}

    def test_files_of_the_future(self, project: Project) -> None:
        raw = declare(project)
        project.ok("raw:a")
        for path in project.cache.rglob("*"):
            if path != raw:
                os.utime(path, (time.time() + 86400 * 3650,) * 2)
        assert project.executed("raw:a") <= {"resolve:a"}
        project.ok("-a", "raw:a")
        project.ok("status")
        project.ok("prune")
        assert raw.read_bytes() == disk("a")


class TestFileSystemsWithout:
    def test_hard_links(self, project: Project, tmp_path: Path) -> None:
        project.hook("import os, errno\ndef link(*a, **k):\n    raise OSError(errno.EPERM, 'no links')\nos.link = link")
        raw = declare(project)
        project.ok("raw:a")
        declare(project, "b", "a")
        project.ok("raw:b")
        project.declare("c", disk("c"), derive=["raw", "content", "fetch"])
        project.ok("raw:c", "content:c", "fetch:c")
        assert raw.read_bytes() == (project.entry("b") / "disk.raw").read_bytes() == disk("a")
        assert not (project.entry("c") / "disk.raw").samefile(project.entry("c") / "wrapper")
        (tmp_path / "vm").mkdir()
        project.ok("clone:a", "--to", str(tmp_path / "vm" / "disk"), "--format", "qcow2")
        assert {path.name for path in (tmp_path / "vm").iterdir()} == {"disk", "disk.base.raw"}
        project.ok("verify")

    def test_holes(self, project: Project, tmp_path: Path) -> None:
        """All that is said to be data is taken for data: POSIX lets a file system answer so."""
        project.hook(
            "import errno, os\nseek = os.lseek\n"
            "def lseek(fd, at, whence):\n"
            "    if whence in (os.SEEK_DATA, os.SEEK_HOLE):\n"
            "        raise OSError(errno.EINVAL, 'no holes')\n"
            "    return seek(fd, at, whence)\n"
            "os.lseek = lseek"
        )
        raw = declare(project)
        project.ok("raw:a")
        project.ok("clone:a", "--to", str(tmp_path / "disk"), "--mode", "copy")
        assert raw.read_bytes() == (tmp_path / "disk").read_bytes() == disk("a")
        project.ok("verify")

    @pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
    def test_locks(self, project: Project, tmp_path: Path, number: str) -> None:
        raw = declare(project)
        project.ok("raw:a")
        project.hook(
            "import errno, fcntl, os\n"
            f"def flock(*a):\n    raise OSError(errno.{number}, os.strerror(errno.{number}))\nfcntl.flock = flock"
        )
        assert project.executed("raw:a") <= {"resolve:a"}
        project.ok("clone:a", "--to", str(tmp_path / "disk"))
        declare(project, "b", "b")
        clear(project.doit("raw:b"), "cannot lock", "LARDER_CACHE")
        project.ok("status")
        assert "Traceback" not in project.doit("prune").err
        assert raw.read_bytes() == disk("a")


NAMES = [
    "with space",
    "ünï©ode",
    "new\nline",
    "quo'te\"",
    "$HOME",
    "%s",
    "star*[x]?",
    "-dash",
    "semi;colon#hash",
    "x" * 250,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_cache_with_any_name(project: Project, tmp_path: Path, name: str) -> None:
    move(project, tmp_path / name / "cache")
    raw = declare(project)
    project.ok("raw:a")
    assert raw.read_bytes() == disk("a")
    for command in (["status"], ["verify"], ["prune"], ["list", "-s"]):
        project.ok(*command)
    assert project.ok("path", "raw:a") == f"{raw}\n"
    project.ok("clone:a", "--to", str(tmp_path / name / "disk"), "--format", "qcow2")
    assert (tmp_path / name / "disk.base.raw").read_bytes() == disk("a")


def test_images_with_every_legal_character(project: Project) -> None:
    names = ["abcdefghijklmnopqrstuvwxyz", "0123456789", "a-z.a_b-c", "a..b", "a" * 64]
    for name in names:
        declare(project, name, name)
    project.ok("raw")
    for name in names:
        assert (project.entry(name) / "disk.raw").read_bytes() == disk(name)
    assert project.executed("raw") == set()
    project.ok("prune")


def test_a_project_that_is_read_only(project: Project) -> None:
    if os.geteuid() != 0:
        lack("mounting read-only needs root")
    raw = declare(project)
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && shift && exec "$@"'
    project.prefix = ("unshare", "-m", "sh", "-ec", script, "sh", str(project.folder))
    project.ok("raw:a")
    assert raw.read_bytes() == disk("a")
    result = project.doit("update")
    assert "Traceback" not in result.out + result.err
