"""A project of its own for a test: images.toml, upstream's files, a cache, and the real `doit` program."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import forks, schemas

REPOSITORY = Path(__file__).parents[2]
DOIT = Path(sys.executable).with_name("doit")
MiB = 1 << 20
#: A dodo.py of somebody's own, with a task that uses an artifact of the image `a`.
OWN_DODO = """from recipes import tasks

DOIT_CONFIG = tasks.use(globals())


def task_use():
    disk = tasks.path("raw:a")
    return {"task_dep": ["raw:a"], "actions": [f"cp {disk} used"], "targets": ["used"], "uptodate": [True]}
"""
#: Seconds for one command.
_TIMEOUT = 120


def disk(seed: str, size: int = 2 * MiB) -> bytes:
    """Return a RAW disk with an MBR, some data that depends on `seed`, and holes in between."""
    image = bytearray(size)
    image[: len(seed)] = seed.encode()
    image[510:512] = b"\x55\xaa"
    image[MiB : MiB + 65536] = hashlib.shake_256(seed.encode()).digest(65536)
    return bytes(image)


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Result:
    """What `doit` said."""

    status: int
    out: str
    err: str


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.cache = folder / "cache"
        self.upstream = folder / "upstream"
        self.folder.mkdir()
        self.upstream.mkdir()
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith("LARDER_") and name != "CI"
        }
        self.environ.update(LARDER_CACHE=str(self.cache), LARDER_ARCH="x86_64")
        (self.folder / "dodo.py").write_bytes((REPOSITORY / "dodo.py").read_bytes())
        self.declared: dict[str, dict[str, Any]] = {}
        #: A program that is to run `doit`, with its arguments.
        self.prefix: tuple[str, ...] = ()

    def serve(self, file: str, data: bytes) -> str:
        """Put `data` upstream; return its url."""
        (self.upstream / file).write_bytes(data)
        return (self.upstream / file).as_uri()

    def declare(self, name: str, data: bytes, file: str | None = None, **image: Any) -> None:
        """Serve `data` and declare it as the image `name`, pinned."""
        file = file or f"{name}.img"
        self.declared[name] = {
            **image,
            "source": {"url": self.serve(file, data), "digest": sha256(data), "size": len(data)},
        }
        self.write()

    def follow(self, name: str, url: str, checksums: str, **source: Any) -> None:
        """Declare the image `name`, which the list `checksums` decides about."""
        self.declared[name] = {"source": {"url": url, "checksums": checksums, **source}}
        self.write()

    def hook(self, code: str) -> None:
        """Run `code` in every `doit` of this project before anything else; one that fails ends it with status 70.

        Python itself would go on after a line, and the test would try what it did not change.
        """
        folder = self.folder.parent / "hook"
        folder.mkdir(exist_ok=True)
        # A module of its own, so that it may be a whole one, with what has to stand first.
        name = f"hook_{sum(1 for _ in folder.glob('hook_*.py'))}"
        (folder / f"{name}.py").write_text(code)
        with (folder / "sitecustomize.py").open("a") as file:
            file.write(
                f"try:\n    import {name}\n"
                "except BaseException:\n"
                "    import os, traceback\n"
                "    traceback.print_exc()\n"
                "    os._exit(70)\n"
            )
        self.environ["PYTHONPATH"] = str(folder)

    def write(self, head: str = "") -> None:
        """Write images.toml."""
        text = head
        for name, image in self.declared.items():
            text += f'[images."{name}"]\n'
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in image.items() if key != "source")
            text += f'[images."{name}".x86_64]\n'
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in image["source"].items())
        (self.folder / "images.toml").write_text(text, encoding="utf-8")

    def doit(self, *arguments: str, **environ: str) -> Result:
        """Run `doit` in the project."""
        whole = {**self.environ, **environ}
        if self.prefix or not forks.serves(whole):
            return self.real(*arguments, **environ)
        result = Result(*forks.run(["doit", *arguments], self.folder, whole, _TIMEOUT))
        schemas.hold(arguments, result.out)
        return result

    def real(self, *arguments: str, **environ: str) -> Result:
        """Run the real program, whose start is what a test is about."""
        done = subprocess.run(
            [*self.prefix, DOIT, *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        schemas.hold(arguments, done.stdout)
        return Result(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, **environ: str) -> str:
        """Run `doit`, which must succeed; return what it printed."""
        result = self.doit(*arguments, **environ)
        assert result.status == 0, result.out + result.err
        return result.out

    def larder(self, *words: str, folder: Path | None = None, **environ: str) -> Result:
        """Run `larder`, in `folder` if it is given."""
        whole, folder = {**self.environ, **environ}, folder or self.folder
        if forks.serves(whole):
            result = Result(*forks.run(["larder", *words], folder, whole, _TIMEOUT))
        else:
            program = [sys.executable, "-m", "recipes.graph.program"]
            done = subprocess.run(
                [*program, *words], cwd=folder, env=whole, capture_output=True, text=True, timeout=_TIMEOUT, check=False
            )
            result = Result(done.returncode, done.stdout, done.stderr)
        schemas.hold(words, result.out)
        return result

    def larder_ok(self, *words: str, folder: Path | None = None, **environ: str) -> str:
        """Run `larder`, which must succeed; return what it printed."""
        result = self.larder(*words, folder=folder, **environ)
        assert result.status == 0, result.out + result.err
        return result.out

    def executed(self, *arguments: str, **environ: str) -> set[str]:
        """Run `doit` with its JSON reporter; return the names of the tasks that it executed, without groups."""
        report = self.folder.parent / "report.json"
        result = self.doit("run", "-r", "json", "-o", str(report), *arguments, **environ)
        tasks = json.loads(report.read_text())["tasks"]
        assert result.status == 0, (result, tasks)
        return {task["name"] for task in tasks if task["result"] == "success" and (":" in task["name"])}

    def entry(self, name: str) -> Path:
        return self.cache / "images" / name / "x86_64"

    def files(self, name: str) -> set[str]:
        """Return the artifacts, receipts and leftovers in the entry of `name`; marks and the lock apart."""
        return {
            path.name
            for path in self.entry(name).iterdir()
            if path.suffix not in (".asked", ".used") and path.name != ".lock"
        }

    def receipt(self, name: str, kind: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.entry(name) / f"{kind}.json").read_text())
        return document
