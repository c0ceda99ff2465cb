"""What `doit lima:NAME` writes, taken by Lima's own downloader package: where a Go toolchain is at hand."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import lima as limactl
from tests.kit.disks import qcow2
from tests.kit.lima import QEMU, VZ
from tests.kit.servers import Exchange, misbehaving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.project import Project

pytestmark = pytest.mark.system

VERSION = "v2.2.0"
PROGRAM = """
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/lima-vm/lima/v2/pkg/downloader"
	"github.com/opencontainers/go-digest"
)

// Arguments: cache, url, where to copy the image, digest or nothing, formats that the driver takes.
func main() {
	downloader.HideProgress = true
	result, err := downloader.Download(context.Background(), os.Args[3], os.Args[2],
		downloader.WithCacheDir(os.Args[1]), downloader.WithDecompress(true),
		downloader.WithExpectedDigest(digest.Digest(os.Args[4])), downloader.WithImageFormats(os.Args[5:]))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(result)
}
"""


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program that downloads as limactl does."""
    # Never required: Lima's modules are no package of a distribution, and CI has no Go.
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    folder = tmp_path_factory.mktemp("lima")
    (folder / "main.go").write_text(PROGRAM)
    steps = [["go", "build", "-o", "download", "."]]
    if os.environ.get("GO111MODULE") != "off":
        module = f"-require=github.com/lima-vm/lima/v2@{VERSION}"
        steps[:0] = [["go", "mod", "init", "larder/lima"], ["go", "mod", "edit", module], ["go", "mod", "tidy"]]
    for step in steps:
        done = subprocess.run(step, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"Lima's downloader cannot be built: {done.stderr.strip().splitlines()[-1]}")
    return folder / "download"


@pytest.mark.parametrize("image", ["qcow2", "qcow2 with zstd clusters", "raw"])
def test_limas_own_downloader_takes_it(project: Project, download: Path, tmp_path: Path, image: str) -> None:
    wrapper, raw = qcow2("a", zstd="zstd" in image)
    if image == "raw":
        wrapper = raw

    def behave(exchange: Exchange) -> None:
        exchange.file(wrapper, Last_Modified="Tue, 01 Sep 2026 10:00:00 GMT", Content_Type="application/octet-stream")

    cache = tmp_path / "lima"
    with misbehaving(behave) as server:
        url = f"{server.url}/a.img"
        digest = f"sha256:{hashlib.sha256(wrapper).hexdigest()}"
        project.declared["a"] = {"source": {"url": url, "digest": digest, "size": len(wrapper)}}
        project.write()
        project.ok("lima:a", "--lima-cache", str(cache))
    # From here on nobody serves it.
    entry = limactl.entry_of(cache, url)
    before = {path: path.stat().st_ino for path in entry.rglob("*")}
    for template in (digest, f"sha512:{hashlib.sha512(wrapper).hexdigest()}", ""):
        for formats, expected in ((VZ, raw), (QEMU, wrapper)):
            instance = tmp_path / "image"
            result = run(download, cache, url, instance, template, *formats)
            assert result["Status"] == "used-cache"
            assert result["CachePath"] == str(entry / ("imgconv/raw" if expected != wrapper else "data"))
            assert result["ValidatedDigest"] == bool(template)
            assert result["ContentType"] == "application/octet-stream"
            assert instance.read_bytes() == expected
            assert os.access(instance, os.W_OK)
            instance.unlink()
    assert {path: path.stat().st_ino for path in entry.rglob("*")} == before, "nothing was converted"


def run(download: Path, *words: object) -> dict[str, Any]:
    done = subprocess.run([download, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result
