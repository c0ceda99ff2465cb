"""The main job without the internet: make a small disk image, serve it on loopback, derive it with larder.

    python examples/offline/demo.py

Everything happens in a temporary folder, cache included. The image is a QCOW2 with zlib clusters as distributions ship
them, 1 GiB virtual with 8 MiB of data.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import zlib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = 1 << 16
VIRTUAL_SIZE = 1 << 30
DATA = 8 << 20
#: Clusters that one L2 table of one cluster maps.
PER_TABLE = CLUSTER // 8


def disk(text: str) -> dict[int, bytes]:
    """Return the clusters with data, by number: an MBR, a greeting, something that compresses by half."""
    noise = hashlib.shake_256(text.encode()).digest(DATA // 2)
    data = bytearray(b"".join(noise[at : at + 32] + bytes(32) for at in range(0, len(noise), 32)))
    data[: len(text)] = text.encode()
    data[510:512] = b"\x55\xaa"
    return {100 * number: bytes(data[number * CLUSTER :][:CLUSTER]) for number in range(DATA // CLUSTER)}


def qcow2(clusters: dict[int, bytes]) -> bytes:
    """Return a QCOW2 version 3 image with compressed clusters (QEMU, docs/interop/qcow2.txt)."""
    tables = VIRTUAL_SIZE // CLUSTER // PER_TABLE
    l1, refcounts, first_l2 = 1, 2, 4
    image = bytearray((first_l2 + tables) * CLUSTER)
    entries = [0] * (tables * PER_TABLE)
    counts = [1] * (first_l2 + tables)
    for number, data in sorted(clusters.items()):
        compressor = zlib.compressobj(level=9, wbits=-12)
        packed = compressor.compress(data) + compressor.flush()
        begin, end = len(image), len(image) + len(packed)
        # The length is counted in sectors beyond the first (same document, "Compressed Clusters Descriptor").
        sectors = (end - 1) // 512 - begin // 512
        entries[number] = 1 << 62 | sectors << 54 | begin
        image += packed
        counts += [0] * (-(-end // CLUSTER) - len(counts))
        for touched in range(begin // CLUSTER, (end - 1) // CLUSTER + 1):
            counts[touched] += 1
    image += bytes(-len(image) % CLUSTER)
    header = struct.Struct(">4sIQIIQIIQQIIQQQQII8s")
    fields = (3, 0, 0, 16, VIRTUAL_SIZE, 0, tables, l1 * CLUSTER, refcounts * CLUSTER, 1, 0, 0, 0, 0, 0, 4, 112, b"")
    header.pack_into(image, 0, b"QFI\xfb", *fields)
    for table in range(tables):
        struct.pack_into(">Q", image, l1 * CLUSTER + 8 * table, 1 << 63 | (first_l2 + table) * CLUSTER)
    struct.pack_into(f">{len(entries)}Q", image, first_l2 * CLUSTER, *entries)
    struct.pack_into(">Q", image, refcounts * CLUSTER, (refcounts + 1) * CLUSTER)
    struct.pack_into(f">{len(counts)}H", image, (refcounts + 1) * CLUSTER, *counts)
    return bytes(image)


def declare(project: Path, url: str, image: bytes) -> None:
    """Declare `image` as the one that is served at `url`."""
    (project / "images.toml").write_text(
        '[images.demo]\ntitle = "A small disk"\n[images.demo.x86_64]\n'
        f'url = "{url}"\ndigest = "sha256:{hashlib.sha256(image).hexdigest()}"\nsize = {len(image)}\n'
    )


def run(project: Path, *arguments: str) -> None:
    """Show a doit command and what it prints."""
    print(f"\n$ doit {' '.join(arguments)}", flush=True)  # noqa: T201
    environ = {**os.environ, "LARDER_CACHE": str(project / "cache"), "LARDER_ARCH": "x86_64"}
    subprocess.run([sys.executable, "-m", "doit", *arguments], cwd=project, env=environ, check=True)


def main() -> None:
    """Derive an image, derive it again, change upstream, derive it once more."""
    with tempfile.TemporaryDirectory() as folder:
        project, upstream = Path(folder) / "project", Path(folder) / "upstream"
        project.mkdir()
        upstream.mkdir()
        shutil.copy(REPOSITORY / "dodo.py", project)
        handler = functools.partial(Quiet, directory=str(upstream))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/demo.qcow2"
            for text in ("larder says hello", "upstream has a new image"):
                print(f"\n# {text}", flush=True)  # noqa: T201
                image = qcow2(disk(text))
                (upstream / "demo.qcow2").write_bytes(image)
                declare(project, url, image)
                run(project, "raw:demo")
                run(project, "raw:demo")
            run(project, "status")
            run(project, "verify")
            server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    main()
