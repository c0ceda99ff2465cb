from __future__ import annotations

import random
from typing import TYPE_CHECKING

from recipes.formats.io.blkhash import of_file
from recipes.formats.io.hashed import HashedFile
from recipes.progress import SILENT_METER

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20


def test_a_header_that_is_written_last(tmp_path: Path) -> None:
    path = tmp_path / "file"
    noise = random.Random(1).randbytes(3 * MiB)
    with HashedFile(path, durable=False) as file:
        file.position = 512
        for at in range(0, len(noise), 100_000):
            file.write(noise[at : at + 100_000])
        file.write(bytes(MiB))
        file.pwrite(b"tail", 6 * MiB)
        file.pwrite(b"head", 0)
        file.finish(7 * MiB)
        assert file.blkhash == of_file(path, jobs=1, meter=SILENT_METER)
    assert path.read_bytes() == (b"head".ljust(512, b"\0") + noise + bytes(3 * MiB - 512) + b"tail".ljust(MiB, b"\0"))
