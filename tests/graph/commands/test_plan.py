"""`doit plan` through the real program: what it knows before anything is downloaded, and what it leaves alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import shutil
import signal
import struct
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.oracles import need
from tests.kit.project import DOIT, MiB, disk, sha256
from tests.kit.servers import misbehaving, nginx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project
    from tests.kit.servers import Exchange

CHAIN = ["fetch", "content", "raw"]


def plan(project: Project, *names: str, **environ: str) -> dict[str, dict[str, Any]]:
    """Return the rows of `doit plan --json` by image; where nothing is known of any, it has to fail."""
    result = project.doit("plan", "--json", *names, **environ)
    rows = json.loads(result.out)["images"]
    assert result.status == (1 if rows and all(row["digest"] is None for row in rows) else 0), result
    return {row["image"]: row for row in rows}


def sizes(row: dict[str, Any]) -> tuple[int | None, ...]:
    return row["download"], row["content_size"], row["virtual_size"]


def float_on(project: Project, name: str, url: str, checksums: str, **image: Any) -> None:
    """Declare an image that is not pinned and has no size."""
    project.declared[name] = {**image, "source": {"url": url, "checksums": checksums}}
    project.write()


def qcow2(folder: Path, data: bytes) -> bytes:
    need("qemu-img")
    (folder / "disk").write_bytes(data)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", folder / "disk", folder / "qcow2"], check=True)
    return (folder / "qcow2").read_bytes()


def compressed(*command: str, file: Path) -> bytes:
    need(command[0])
    return subprocess.run([*command, "-c", file], check=True, capture_output=True).stdout


@pytest.fixture
def formats(project: Project, tmp_path: Path) -> dict[str, bytes]:
    """Serve the same disk in every way, each an image of its own; return the wrappers."""
    raw = tmp_path / "a.raw"
    raw.write_bytes(disk("a", 5 * MiB))
    wrappers = {
        "a.qcow2": qcow2(tmp_path, raw.read_bytes()),
        "b.raw": raw.read_bytes() + bytes(512),
        "c.raw.xz": compressed("xz", "-T2", "--block-size=1MiB", file=raw),
        "d.raw.zst": compressed("zstd", file=raw),
        "e.raw.gz": gzip.compress(raw.read_bytes()),
    }
    wrappers["f.qcow2.gz"] = gzip.compress(wrappers["a.qcow2"])
    for name, data in wrappers.items():
        (project.upstream / name).write_bytes(data)
    return wrappers


def listed(wrappers: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in wrappers.items()).encode()


@pytest.mark.parametrize("scheme", ["file", "http"])
def test_every_format_says_what_it_can(
    project: Project, tmp_path: Path, formats: dict[str, bytes], scheme: str
) -> None:
    project.serve("SHA256SUMS", listed(formats))
    (tmp_path / "nginx").mkdir()
    with nginx(project.upstream, tmp_path / "nginx") as server:
        root = server.url if scheme == "http" else project.upstream.as_uri()
        for name in formats:
            float_on(project, name.partition(".")[0], f"{root}/{name}", f"{root}/SHA256SUMS")
        rows = plan(project)
    virtual = 5 * MiB
    assert {name: sizes(row)[1:] for name, row in rows.items()} == {
        "a": (len(formats["a.qcow2"]), virtual),
        "b": (virtual + 512, virtual + 512),
        "c": (virtual, virtual),
        "d": (virtual, virtual),
        "e": (None, None),
        "f": (None, virtual),
    }
    assert {row["download"] for row in rows.values()} == {len(data) for data in formats.values()}
    assert all(row["runs"] == CHAIN and row["released"] == CHAIN[:2] and not row["notes"] for row in rows.values())


def test_the_sizes_are_those_that_come_out(project: Project, formats: dict[str, bytes]) -> None:
    for name, data in formats.items():
        project.declare(name.partition(".")[0], data, name)
    rows = plan(project)
    project.ok("raw")
    for name, row in rows.items():
        content = project.receipt(name, "raw")["content"]
        assert row["content_size"] in (None, content["size"])
        assert row["virtual_size"] in (None, content["virtual_size"])
        assert row["content_format"] == content["format"]


def test_nothing_is_written_and_nothing_downloaded(project: Project, tmp_path: Path) -> None:
    noise = hashlib.shake_256(b"a").digest(8 * MiB)
    project.serve("a.img", noise)
    project.serve("SHA256SUMS", listed({"a.img": noise}))
    (tmp_path / "nginx").mkdir()
    with nginx(project.upstream, tmp_path / "nginx") as server:
        float_on(project, "a", f"{server.url}/a.img", f"{server.url}/SHA256SUMS")
        plan(project)
        served = [int(line.split()[1]) for line in server.log() if line.endswith("/a.img")]
    assert served
    assert sum(served) < MiB
    assert not (project.cache / "images").exists()
    assert {path.name.partition(".")[0] for path in project.cache.iterdir()} == {
        "CACHEDIR",
        "doit",
        "lists",
        "roots",
        "validated",
    }


def test_json_for_scripts(project: Project) -> None:
    data = gzip.compress(disk("a"))
    project.declare("a", data, "a.raw.gz")
    document = json.loads(project.ok("plan", "--json"))
    free = document["totals"].pop("free")
    assert 0 < free <= shutil.disk_usage(project.cache).total
    assert document == {
        "cache": str(project.cache),
        "offline": False,
        "images": [
            {
                "image": "a",
                "arch": "x86_64",
                "runs": CHAIN,
                "released": ["fetch", "content"],
                "url": (project.upstream / "a.raw.gz").as_uri(),
                "digest": sha256(data),
                "wrapper_size": len(data),
                "download": len(data),
                "content_format": "raw",
                "content_size": None,
                "virtual_size": None,
                "root": None,
                "written_at_most": None,
                "kept_at_most": None,
                "notes": [],
            }
        ],
        "totals": {
            "download": len(data),
            "download_unknown": 0,
            "written_at_least": len(data),
            "written_at_most": None,
            "kept_at_most": None,
            "suffices": None,
        },
    }


def test_the_table(project: Project) -> None:
    project.declare("small", disk("a"), "small.img")
    project.declare("a-longer-name", gzip.compress(disk("b")), "b.raw.gz", derive=["fetch", "raw"])
    head, first, second, blank, total, room = project.ok("plan").splitlines()
    assert head.split() == ["IMAGE", "RUNS", "DOWNLOAD", "CONTENT", "VIRTUAL", "RELEASED"]
    assert first.split() == ["small", *CHAIN, "2.0", "MiB", "2.0", "MiB", "2.0", "MiB", "fetch", "content"]
    assert second.split()[-4:] == ["KiB", "?", "?", "content"]
    assert blank == ""
    assert head.index("VIRTUAL") + len("VIRTUAL") == first.index(" fetch content", 30) - 1 == second.rindex("?") + 1
    assert total.startswith("2 images for x86_64: 2.1 MiB to download")
    assert f"free in {project.cache}; at least 2.1 MiB needed" in room


class TestWhatRuns:
    def test_current_images_are_left_out(self, project: Project) -> None:
        for name in "ab":
            project.declare(name, gzip.compress(disk(name)), f"{name}.raw.gz")
        project.ok("raw:a")
        assert plan(project).keys() == {"b"}
        assert plan(project, "a") == {}
        project.ok("raw:b")
        assert project.ok("plan") == "nothing to do: what is asked for is current\n"

    def test_a_changed_upstream_is_planned(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        project.declare("a", disk("new"))
        assert plan(project)["a"]["runs"] == CHAIN

    def test_it_is_what_doit_then_runs(self, project: Project) -> None:
        for name in "abc":
            project.declare(name, gzip.compress(disk(name)), f"{name}.raw.gz")
        project.ok("fetch:a")
        project.ok("content:b")
        rows = plan(project)
        planned = {f"{kind}:{name}" for name, row in rows.items() for kind in row["runs"]}
        before = {name: project.files(name) if project.entry(name).exists() else set() for name in "abc"}
        assert {task for task in project.executed("raw") if not task.startswith("resolve")} == planned
        names = {"fetch": "wrapper", "content": "content"}
        for name, row in rows.items():
            for kind in ("fetch", "content"):
                was_there = names[kind] in before[name] or kind in row["runs"]
                assert (names[kind] in project.files(name)) == (was_there and kind not in row["released"])

    def test_a_wrapper_that_is_there_needs_no_download(self, project: Project) -> None:
        data = lzma.compress(disk("a"))
        project.declare("a", data, "a.raw.xz")
        project.ok("fetch:a")
        shutil.rmtree(project.upstream)
        row = plan(project)["a"]
        assert row["runs"] == ["content", "raw"]
        assert row["wrapper_size"] == len(data)
        assert sizes(row) == (0, 2 * MiB, 2 * MiB)
        assert row["released"] == ["content"]

    def test_a_receipt_tells_what_the_wrapper_does_not(self, project: Project) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
        project.ok("raw:a")
        row = plan(project, "fetch:a")["a"]
        assert row["runs"] == ["fetch"]
        assert sizes(row)[1:] == (2 * MiB, 2 * MiB)
        assert row["released"] == []

    def test_what_is_named_counts_as_asked_for(self, project: Project) -> None:
        project.declare("a", gzip.compress(disk("a")), "a.raw.gz")
        assert plan(project, "fetch:a")["a"]["runs"] == ["fetch"]
        both = plan(project, "fetch:a", "a")["a"]
        assert (both["runs"], both["released"]) == (CHAIN, ["content"])
        assert not project.entry("a").exists()

    def test_an_image_with_the_same_bytes_saves_the_work(self, project: Project) -> None:
        for name in "ab":
            project.declare(name, disk("a"), f"{name}.img")
        project.ok("raw:a")
        assert plan(project) == {}
        assert project.executed("raw:b") == {"resolve:b"}

    def test_a_restored_cache_is_not_downloaded_again(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.ok("raw:a")
        os.utime(project.entry("a") / "disk.raw", (1, 1))
        assert plan(project) == {}

    @pytest.mark.parametrize(
        ("word", "said"),
        [
            ("nope", "nope: there is no such command, kind, image or task"),
            ("vhdz:a", "vhdz:a: there is no kind vhdz; did you mean vhd"),
            ("raw:root", "root is a tarball"),
            ("arm", "not declared for x86_64, only for aarch64"),
            ("raw:arm", "not declared for x86_64, only for aarch64"),
        ],
    )
    def test_a_name_that_is_none(self, project: Project, word: str, said: str) -> None:
        project.declare("a", disk("a"))
        project.declare("root", b"tar", "root.tar")
        arm = f'[images.arm.aarch64]\nurl = "https://example.org/a.img"\ndigest = "{sha256(b"")}"\n'
        project.write(arm)
        result = project.doit("plan", word)
        assert result.status == 3
        assert said in result.err


class TestADownloadThatWasBegun:
    def test_is_subtracted(self, project: Project) -> None:
        data = lzma.compress(hashlib.shake_256(b"a").digest(2 * MiB))

        def behave(exchange: Exchange) -> None:
            if exchange.asked == 0:
                exchange.file(data, stop=MiB)
            elif exchange.headers.get("Range", "").startswith("bytes=0-"):
                exchange.reply(206, data[: 1 << 17], Content_Range=f"bytes 0-{(1 << 17) - 1}/{len(data)}")
            else:
                exchange.reply(404)

        project.declare("a", data, "a.raw.xz")
        with misbehaving(behave) as server:
            project.declared["a"]["source"]["url"] = f"{server.url}/a.raw.xz"
            project.write()
            assert project.doit("raw:a").status == 1
            part = (project.entry("a") / "wrapper.part").stat().st_size
            assert 0 < part <= MiB
            row = plan(project)["a"]
            assert (row["wrapper_size"], row["download"]) == (len(data), len(data) - part)
            assert "of it are here already" in project.ok("plan")
            # Of another digest, it will not be continued.
            project.declared["a"]["source"]["digest"] = sha256(b"other")
            project.write()
            assert plan(project)["a"]["download"] == len(data)


class TestUpstreamThatDoesNotAnswer:
    @pytest.mark.parametrize("size", [None, 1234])
    def test_the_row_says_so(self, project: Project, size: int | None) -> None:
        with misbehaving(lambda exchange: exchange.reply(404)) as server:
            url = f"{server.url}/a.img"
            for name, where in (("gone", url), ("unreachable", "http://127.0.0.1:9/a.img")):
                source = {"url": where, "digest": sha256(name.encode()), **({"size": size} if size else {})}
                project.declared[name] = {"source": source}
            project.write()
            rows = plan(project)
            text = project.ok("plan")
        assert [sizes(row) for row in rows.values()] == [(size, None, None)] * 2
        assert rows["gone"]["notes"] == [f"gone: {url}: 404 Not Found"]
        assert "connection refused" in rows["unreachable"]["notes"][0]
        assert f"gone: {url}: 404 Not Found" in text
        assert ("2 of unknown size" in text) == (size is None)

    def test_a_list_that_cannot_be_had(self, project: Project) -> None:
        with misbehaving(lambda exchange: exchange.reply(404)) as server:
            float_on(project, "a", f"{server.url}/a.img", f"{server.url}/SHA256SUMS")
            row = plan(project)["a"]
        assert row["runs"] == CHAIN
        assert row["digest"] is None
        assert "SHA256SUMS: 404 Not Found" in row["notes"][0]

    def test_a_file_that_is_not_on_the_list(self, project: Project) -> None:
        float_on(project, "a", project.serve("a.img", disk("a")), project.serve("SUMS", listed({"b.img": b""})))
        assert "a.img" in plan(project)["a"]["notes"][0]

    def test_another_size_than_declared(self, project: Project) -> None:
        project.declare("a", disk("a"))
        project.declared["a"]["source"]["size"] = 5
        project.write()
        row = plan(project)["a"]
        assert row["download"] == 5
        assert row["notes"] == [f"a: expected 5 bytes, the server announces {2 * MiB}"]

    def test_a_server_without_ranges(self, project: Project, tmp_path: Path) -> None:
        wrappers = {"a": qcow2(tmp_path, disk("a")), "b": lzma.compress(hashlib.shake_256(b"b").digest(MiB))}
        with misbehaving(lambda exchange: exchange.reply(200, wrappers[exchange.path[1:]])) as server:
            for name, data in wrappers.items():
                project.declared[name] = {"source": {"url": f"{server.url}/{name}", "digest": sha256(data)}}
            project.write()
            rows = plan(project)
        assert sizes(rows["a"]) == (len(wrappers["a"]), len(wrappers["a"]), 2 * MiB)
        assert sizes(rows["b"]) == (len(wrappers["b"]), None, None)
        assert "nothing but whole files" in rows["b"]["notes"][0]

    def test_a_mirror_is_asked_first(self, project: Project) -> None:
        data = disk("a")
        project.declared["a"] = {"source": {"url": "http://127.0.0.1:9/a.img", "digest": sha256(data)}}
        project.serve("a.img", data)
        project.write(f'[mirrors]\n"http://127.0.0.1:9/" = ["{project.upstream.as_uri()}/"]\n')
        row = plan(project)["a"]
        assert sizes(row) == (2 * MiB,) * 3
        assert row["notes"] == []


def hang(exchange: Exchange) -> None:
    exchange.stopping.wait()


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(project: Project) -> None:
    with misbehaving(hang) as server:
        project.declared["a"] = {"source": {"url": f"{server.url}/a", "digest": sha256(b"")}}
        project.write()
        process = subprocess.Popen(
            [DOIT, "plan"], cwd=project.folder, env=project.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while not server.seen and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        # Less than the minute that larder waits for an answer.
        out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (130, b"", b"larder: interrupted\n")


class TestOffline:
    def test_what_is_known_is_told_and_nobody_asked(self, project: Project) -> None:
        with misbehaving(lambda exchange: exchange.reply(200, b"x")) as server:
            project.declared["a"] = {"source": {"url": f"{server.url}/a", "digest": sha256(b""), "size": 9}}
            float_on(project, "b", f"{server.url}/b", f"{server.url}/SHA256SUMS")
            rows = plan(project, LARDER_OFFLINE="1")
            text = project.ok("plan", LARDER_OFFLINE="1")
            assert server.seen == []
        assert sizes(rows["a"]) == (9, None, None)
        assert rows["a"]["notes"] == []
        assert "never fetched" in rows["b"]["notes"][0]
        assert "LARDER_OFFLINE is set: upstream was not asked" in text

    def test_the_last_list_still_decides(self, project: Project) -> None:
        project.serve("a.img", disk("a"))
        float_on(
            project, "a", (project.upstream / "a.img").as_uri(), project.serve("SUMS", listed({"a.img": disk("a")}))
        )
        project.ok("raw:a")
        project.serve("SUMS", listed({"a.img": disk("new")}))
        assert plan(project, LARDER_OFFLINE="1") == {}
        assert plan(project, CI="1")["a"]["runs"] == CHAIN


class TestSpace:
    def totals(self, project: Project, *names: str) -> dict[str, Any]:
        totals: dict[str, Any] = json.loads(project.ok("plan", "--json", *names))["totals"]
        return totals

    def test_raw_is_stored_once(self, project: Project) -> None:
        project.declare("a", disk("a"), derive=["fetch", "content", "raw"])
        totals = self.totals(project)
        assert totals["written_at_most"] == totals["kept_at_most"] == 2 * MiB
        assert totals["suffices"] is True
        assert "needed at most: enough" in project.ok("plan")

    def test_images_are_made_one_after_the_other(self, project: Project) -> None:
        wrappers = [lzma.compress(disk(name)) for name in "ab"]
        for name, data in zip("ab", wrappers, strict=True):
            project.declare(name, data, f"{name}.raw.xz")
        totals = self.totals(project)
        assert totals["download"] == sum(map(len, wrappers))
        assert totals["kept_at_most"] == 4 * MiB
        assert totals["written_at_most"] == 4 * MiB + max(map(len, wrappers))
        assert totals["written_at_least"] == max(map(len, wrappers))

    def test_a_conversion_needs_room_beside_its_input(self, project: Project, tmp_path: Path) -> None:
        data = qcow2(tmp_path, disk("a"))
        project.declare("a", gzip.compress(data), "a.qcow2.gz")
        assert self.totals(project)["written_at_most"] is None
        project.ok("content:a")
        assert self.totals(project, "a")["written_at_most"] == 2 * MiB

    @pytest.mark.parametrize(
        ("size", "suffices", "said"), [(1 << 60, False, "not enough"), (1 << 20, None, "how much in all is not known")]
    )
    def test_what_does_not_fit(self, project: Project, size: int, suffices: bool | None, said: str) -> None:
        source = {"url": "https://example.org/a.img", "digest": sha256(b""), "size": size}
        project.declared["a"] = {"source": source}
        project.write()
        document = json.loads(project.ok("plan", "--json", LARDER_OFFLINE="1"))
        assert document["totals"]["suffices"] is suffices
        assert said in project.ok("plan", LARDER_OFFLINE="1").splitlines()[-1]

    def test_a_disk_that_may_not_fit_when_it_is_full(self, project: Project) -> None:
        header = b"QFI\xfb" + struct.pack(">IQIIQ", 3, 0, 0, 16, 1 << 60)
        project.declare("a", header.ljust(1 << 16), "a.qcow2")
        project.write('[cache]\nmax-virtual-size = "4EiB"\n')
        assert self.totals(project)["suffices"] is None
        assert project.ok("plan").endswith("may not be enough\n")
        project.write()
        (note,) = plan(project)["a"]["notes"]
        assert note == "a: will be refused: its disk has 1.0 EiB, and max-virtual-size is 2.0 TiB"


def test_what_holds_for_many_images_is_said_once(project: Project) -> None:
    for number in range(12):
        project.declare(f"i{number}", disk("i"))
        project.declared[f"i{number}"]["source"] |= {"url": f"http://127.0.0.1:9/{number}/i.img"}
    project.declare("other", disk("other"))
    project.declared["other"]["source"] |= {"size": 5}
    project.write()
    text = project.ok("plan")
    refused = [line for line in text.splitlines() if "connection refused" in line]
    assert len(refused) == 1
    assert refused[0].startswith("http://127.0.0.1:9/0/") or refused[0].startswith("i0: ")
    assert "  so it is with i1, i2, i3, i4, i5, i6 and 5 more\n" in text
    assert "other: expected 5 bytes" in text
    assert project.ok("plan", "i1", "i2").count("connection refused") == 2
