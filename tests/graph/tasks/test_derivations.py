"""The graph through the real `doit` program: what runs, what does not, what stays and what goes."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.kit.oracles import lack
from tests.kit.project import DOIT, MiB, disk, sha256

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project

ALL = {"fetch", "content", "raw"}


def chain(name: str) -> set[str]:
    return {f"{kind}:{name}" for kind in ALL}


def test_raw_is_derived_once(project: Project) -> None:
    project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
    assert project.executed("raw:a") == chain("a") | {"resolve:a"}
    raw = project.entry("a") / "disk.raw"
    assert raw.read_bytes() == disk("a")
    assert raw.stat().st_blocks * 512 < MiB
    assert project.executed("raw:a") == set()


def test_a_changed_upstream_rebuilds_exactly_that_image(project: Project) -> None:
    for name in "abc":
        project.declare(name, gzip.compress(disk(name)), f"{name}.raw.gz")
    project.ok("raw")
    project.declare("b", gzip.compress(disk("new b")), "b.raw.gz")
    assert project.executed("raw") == chain("b") | {"resolve:b"}
    assert (project.entry("b") / "disk.raw").read_bytes() == disk("new b")


def test_a_moved_file_with_the_same_digest_rebuilds_nothing(project: Project) -> None:
    project.declare("a", disk("a"))
    project.ok("raw:a")
    project.declare("a", disk("a"), "moved.img")
    assert project.executed("raw:a") == {"resolve:a"}


class TestReceiptsAreTheTruth:
    @pytest.mark.parametrize("harm", ["lost", "corrupt", "from an older run"])
    def test_the_database_may_be(self, project: Project, harm: str) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
        project.ok("resolve:a")
        shutil.copy(project.cache / "doit.db", project.cache / "older")
        project.ok("raw:a")
        shutil.rmtree(project.upstream)
        match harm:
            case "lost":
                (project.cache / "doit.db").unlink()
            case "corrupt":
                (project.cache / "doit.db").write_bytes(b"no database" * 1000)
            case _:
                shutil.copy(project.cache / "older", project.cache / "doit.db")
        assert project.executed("raw:a") <= {"resolve:a"}

    def test_a_restored_cache_without_mtimes_is_adopted(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        shutil.rmtree(project.upstream)
        raw = project.entry("a") / "disk.raw"
        os.utime(raw, (1, 1))
        raw.chmod(0o644)
        (project.cache / "doit.db").unlink()
        assert project.executed("raw:a") == {"resolve:a"}
        assert raw.stat().st_mode & 0o777 == 0o444
        assert raw.stat().st_mtime_ns == project.receipt("a", "raw")["artifact"]["mtime_ns"]

    def test_an_artifact_that_was_written_to_is_made_again(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        raw = project.entry("a") / "disk.raw"
        raw.chmod(0o644)
        with raw.open("r+b") as file:
            file.seek(MiB)
            file.write(b"changed")
        assert "raw:a" in project.executed("raw:a")
        assert raw.read_bytes() == disk("a")

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"larder": 99}', "null"])
    def test_an_unreadable_receipt_is_no_receipt(self, project: Project, text: str) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        (project.entry("a") / "raw.json").write_text(text)
        assert "raw:a" in project.executed("raw:a")


class TestTheFourCases:
    """Asked for is kept; passed through is released."""

    def test_the_wanted_format_is_there(self, project: Project) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz", derive=["fetch"])
        project.ok("fetch:a")
        assert project.files("a") == {"wrapper", "fetch.json"}
        assert project.executed("fetch:a") == set()

    @pytest.mark.parametrize("how", ["declared", "named before", "named with it"])
    def test_another_format_was_asked_for_and_stays(self, project: Project, how: str) -> None:
        derive = ["raw", "fetch"] if how == "declared" else ["raw"]
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz", derive=derive)
        if how == "named before":
            project.ok("fetch:a")
        project.ok("raw:a", *(["fetch:a"] if how == "named with it" else []))
        assert project.files("a") == {"wrapper", "fetch.json", "disk.raw", "raw.json"}
        assert project.executed("raw:a", "fetch:a") == set()

    def test_what_is_raw_already_becomes_raw(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        assert project.files("a") == {"disk.raw", "raw.json"}
        assert (project.entry("a") / "disk.raw").read_bytes() == disk("a")

    def test_what_is_raw_already_is_not_stored_twice(self, project: Project) -> None:
        project.declare("a", disk("a"), derive=["raw", "fetch"])
        project.ok("raw:a")
        assert project.files("a") == {"wrapper", "fetch.json", "disk.raw", "raw.json"}
        assert (project.entry("a") / "wrapper").samefile(project.entry("a") / "disk.raw")

    def test_what_was_only_passed_through_goes(self, project: Project) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
        project.ok("raw:a")
        assert project.files("a") == {"disk.raw", "raw.json"}

    def test_an_intermediate_stays_while_an_asked_for_derivation_lacks_it(self, project: Project) -> None:
        project.declare("a", gzip.compress(b"no disk" + bytes(5)), "a.vmdk.gz", derive=["raw"])
        vmdk = gzip.compress(b"KDMV" + bytes(4096))
        project.declare("a", vmdk, "a.vmdk.gz", derive=["raw"])
        result = project.doit("raw:a")
        assert result.status == 1
        assert "vmdk" in (result.out + result.err).lower()
        assert project.files("a") == {"content", "content.json"}


def test_two_images_with_the_same_bytes_share_them(project: Project) -> None:
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz")
    project.ok("raw:a")
    project.declare("b", gzip.compress(disk("a"), mtime=0), "b.raw.gz")
    (project.upstream / "b.raw.gz").unlink()
    assert project.executed("raw:b") == {"resolve:b"}
    assert project.receipt("b", "raw")["image"] == "b"
    assert (project.entry("a") / "disk.raw").samefile(project.entry("b") / "disk.raw")
    project.ok("clean", "raw:a")
    assert not (project.entry("a") / "disk.raw").exists()
    assert (project.entry("b") / "disk.raw").read_bytes() == disk("a")
    assert project.executed("raw:b") == set()


def test_clean_deletes_and_never_downloads(project: Project) -> None:
    project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
    project.ok("raw:a")
    project.ok("clean", "-n", "raw:a")
    assert project.files("a") == {"disk.raw", "raw.json"}
    shutil.rmtree(project.upstream)
    project.ok("clean", "raw:a")
    project.ok("clean", "raw:a")
    assert project.files("a") == set()


def test_always_rebuilds(project: Project) -> None:
    project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
    project.ok("raw:a")
    before = project.receipt("a", "raw")["artifact"]["mtime_ns"]
    assert project.executed("-a", "raw:a") == chain("a") | {"resolve:a"}
    assert project.receipt("a", "raw")["artifact"]["mtime_ns"] > before
    assert project.files("a") == {"disk.raw", "raw.json"}


def test_a_failed_rebuild_leaves_the_old_artifact(project: Project) -> None:
    project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
    project.ok("raw:a")
    (project.upstream / "a.raw.gz").write_bytes(b"something else")
    assert project.doit("run", "-a", "raw:a").status == 1
    assert (project.entry("a") / "disk.raw").read_bytes() == disk("a")
    assert project.executed("raw:a") <= {"resolve:a"}


@pytest.mark.parametrize("jobs", ["0", "1", "2", "4"])
@pytest.mark.parametrize("selection", [["raw"], ["raw:*"], []])
def test_live_intermediates_stay_within_the_number_of_jobs(
    project: Project, tmp_path: Path, jobs: str, selection: list[str]
) -> None:
    for number in range(12):
        data = gzip.compress(disk(f"disk {number}", 16 * MiB), compresslevel=1)
        project.declare(f"i{number}", data, f"{number}.raw.gz", prewarm=True)
    log = tmp_path / "live"
    # What is alive is counted whenever a wrapper or content appears, in the program itself.
    project.hook(
        "import pathlib\n"
        "from recipes.cache.store import Held\n"
        "publish = Held.publish\n"
        "def counting(self, path, receipt):\n"
        "    done = publish(self, path, receipt)\n"
        f"    root = pathlib.Path({str(project.cache)!r}) / 'images'\n"
        "    live = {p.parent for name in ('wrapper', 'content') for p in root.glob(f'*/*/{name}')}\n"
        f"    with open({str(log)!r}, 'a') as file:\n"
        "        file.write(f'{len(live)}\\n')\n"
        "    return done\n"
        "Held.publish = counting"
    )
    project.ok("run", "-n", jobs, *selection)
    live = [int(line) for line in log.read_text().split()]
    assert len(live) == 36
    assert max(live) <= max(1, int(jobs))
    assert project.executed(*selection) == set()


def test_failures_do_not_stop_others_with_continue(project: Project) -> None:
    data = gzip.compress(disk("bad"))
    tampered = data[:-1] + bytes([data[-1] ^ 1])
    project.declare("bad", data, "bad.raw.gz")
    project.declare("good", disk("good"))
    (project.upstream / "bad.raw.gz").write_bytes(tampered)
    result = project.doit("run", "-c", "raw")
    assert result.status != 0
    assert (project.entry("good") / "disk.raw").read_bytes() == disk("good")
    assert not (project.entry("bad") / "disk.raw").exists()
    assert "Traceback" not in result.out + result.err
    assert sha256(data) in result.out
    assert sha256(tampered) in result.out


class TestWhatADoitUserExpects:
    def test_list(self, project: Project) -> None:
        project.declare("a", disk("a"), title="An image")
        out = project.ok("list", "--all")
        assert "raw:a" in out
        assert "An image as a sparse RAW disk" in out
        assert "raw:a" in project.ok("list", "--all", "--quiet")

    def test_list_imports_nothing_heavy(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("list")
        result = project.doit("list", PYTHONPROFILEIMPORTTIME="1")
        for heavy in ("requests", "jsonschema", "rich", "zstandard", "blake3"):
            assert f" {heavy}\n" not in result.err

    def test_list_status(self, project: Project) -> None:
        project.declare("a", disk("a"))
        assert "R raw:a" in project.ok("list", "-s")
        project.ok("raw:a")
        assert "U raw:a" in project.ok("list", "-s")
        (project.cache / "doit.db").unlink()
        assert "U raw:a" in project.ok("list", "-s")

    def test_info_explains(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit("info", "raw:a")
        assert "would run: it is not in the cache" in result.out
        project.ok("raw:a")
        assert "up to date" in project.doit("info", "raw:a").out

    @pytest.mark.parametrize("shell", ["bash", "zsh"])
    def test_tab_completion(self, project: Project, shell: str) -> None:
        project.declare("a", disk("a"))
        assert "raw" in project.ok("tabcompletion", "-s", shell, "--hardcode-tasks")

    @pytest.mark.parametrize("reporter", ["console", "executed-only", "zero", "error-only"])
    def test_other_reporters(self, project: Project, reporter: str) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
        project.ok("run", "-r", reporter, "-n", "3", "raw")

    def test_a_target_names_its_task(self, project: Project) -> None:
        project.declare("a", disk("a"))
        assert "raw:a" in project.executed(str(project.entry("a") / "disk.raw"))

    def test_run_works_from_another_folder(self, project: Project, tmp_path: Path) -> None:
        project.declare("a", disk("a"))
        project.folder, folder = tmp_path, project.folder
        project.ok("-f", str(folder / "dodo.py"), "raw:a")

    def test_an_image_of_another_architecture(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit("raw:a", LARDER_ARCH="arm64")
        assert result.status == 3
        assert "a is not declared for aarch64, only for x86_64" in result.err

    def test_nothing_to_do_by_default(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit()
        assert result.status == 3
        assert "prewarm" in result.err

    def test_a_pattern_that_matches_nothing(self, project: Project) -> None:
        project.declare("a", disk("a"))
        assert project.doit("raw:b*").status == 3

    def test_errors_in_images_toml(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.declared["a"]["colour"] = "red"
        project.write()
        result = project.doit("list")
        assert result.status == 3
        assert result.err.startswith("images.toml:2:1: ")
        assert "Traceback" not in result.err

    def test_a_bad_environment(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit("list", LARDER_JOBS="many")
        assert result.status == 3
        assert "LARDER_JOBS" in result.err


def test_the_receipt_is_what_its_schema_says(project: Project) -> None:
    import jsonschema

    from tests.kit.project import REPOSITORY

    schema = json.loads((REPOSITORY / "schema" / "receipt.schema.json").read_text())
    data = gzip.compress(disk("a"))
    project.declare("a", data, "a.raw.gz", derive=["fetch", "content", "raw"])
    project.ok("raw:a", "content:a")
    for kind in ALL:
        receipt = project.receipt("a", kind)
        jsonschema.validate(receipt, schema)
        assert receipt["wrapper"] == {"digest": sha256(data), "size": len(data)}
    content = project.receipt("a", "content")["content"]
    assert content == {
        "digest": None,
        "size": 2 * MiB,
        "format": "raw",
        "virtual_size": 2 * MiB,
    }


def test_a_lock_is_waited_for(project: Project) -> None:
    import subprocess
    import sys

    project.declare("a", disk("a"))
    project.entry("a").mkdir(parents=True)
    code = (
        "import sys, time\nfrom filelock import FileLock\n"
        "with FileLock(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(1)\n    open(sys.argv[2], 'w')\n"
    )
    released = project.folder / "released"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(project.entry("a") / ".lock"), str(released)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        project.ok("raw:a")
        # Made before the lock was let go of: whoever did not wait is here first.
        assert released.exists()


class TestACacheThatCannotBeWrittenTo:
    def test_none_at_all(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit("list", LARDER_CACHE="/proc/larder")
        assert result.status == 3
        assert "LARDER_CACHE" in result.err
        assert "Traceback" not in result.err

    def test_a_read_only_one_serves_what_it_has(self, project: Project, tmp_path: Path) -> None:
        import subprocess

        if os.geteuid() != 0:
            lack("mounting read-only needs root")
        project.declare("a", disk("a"))
        project.ok("raw:a")
        project.declare("b", disk("b"))
        script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
        command = ["unshare", "-m", "sh", "-ec", script, "sh", str(project.cache), str(DOIT)]
        environ = {"cwd": project.folder, "env": project.environ, "capture_output": True, "text": True}
        done = subprocess.run([*command, "raw:a"], **environ, check=False)  # type: ignore[call-overload]
        assert (done.returncode, done.stdout) == (0, "-- raw:a\n"), done.stderr
        done = subprocess.run([*command, "raw:b"], **environ, check=False)  # type: ignore[call-overload]
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr


def test_runs_at_once_make_everything_once(project: Project, tmp_path: Path) -> None:
    for name in "abc":
        project.declare(name, gzip.compress(disk(name, 16 * MiB), compresslevel=1), f"{name}.raw.gz")
    log = tmp_path / "published"
    project.hook(
        "import time\n"
        "from recipes.cache.store import Held\n"
        "publish = Held.publish\n"
        "def logging(self, path, receipt):\n"
        "    time.sleep(0.1)\n"
        f"    with open({str(log)!r}, 'a') as file:\n"
        "        file.write(f'{receipt.kind}:{receipt.image}\\n')\n"
        "    return publish(self, path, receipt)\n"
        "Held.publish = logging"
    )
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda jobs: project.doit("run", "-n", jobs, "raw"), ("0", "2", "2", "3")))
    assert [result.status for result in results] == [0] * 4, results
    published = log.read_text().split()
    assert sorted(set(published)) == sorted(chain("a") | chain("b") | chain("c"))
    assert published.count("raw:a") == published.count("raw:b") == published.count("raw:c") == 1
    for name in "abc":
        assert (project.entry(name) / "disk.raw").read_bytes() == disk(name, 16 * MiB)
        assert project.files(name) == {"disk.raw", "raw.json"}
    assert project.executed("raw") == set()


@pytest.mark.parametrize("how", ["task_dep", "file_dep", "setup"])
def test_what_a_task_of_somebody_s_own_depends_on_is_made(project: Project, how: str) -> None:
    """Nobody asked for the wrapper, and the RAW is there already: a mere input would not be made."""
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz")
    project.ok("raw:a")
    assert project.files("a") == {"disk.raw", "raw.json"}
    wrapper = str(project.entry("a") / "wrapper")
    task = {"actions": [f"test -e {wrapper}"], how: [wrapper if how == "file_dep" else "fetch:a"]}
    with (project.folder / "dodo.py").open("a") as file:
        file.write(f"\n\ndef task_mine():\n    return {task}\n")
    assert "fetch:a" in project.executed("mine")


def test_a_target_is_asked_for_as_its_task_is(project: Project) -> None:
    project.declare("a", gzip.compress(disk("a"), mtime=0), "a.raw.gz")
    project.ok("raw:a")
    project.ok(str(project.entry("a") / "wrapper"))
    assert project.files("a") == {"disk.raw", "raw.json", "wrapper", "fetch.json"}
