"""README and docs/: what they show is what is printed, what they name is there, the site builds without a warning."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from contextlib import nullcontext
from pathlib import Path

import jsonschema
import pytest

from demo import build
from recipes.__main__ import COMMANDS as STEPS
from recipes.declare.images import COMMANDS
from recipes.export import clone
from recipes.formats.codec.compression import CODECS
from recipes.formats.disk.table import FORMATS
from recipes.formats.io.probe import DISK_FORMATS, RAW_FORMATS
from recipes.graph.commands import manual
from recipes.kinds import DERIVABLE, KINDS
from recipes.project import catalogue

from .kit import boot, pages, stages
from .kit.oracles import need
from .kit.project import REPOSITORY
from .kit.servers import nginx

#: Images that pages declare, and what stands for any word.
OWN = ("debian", "mine", "noble", "…")
RUN = [page for page in pages.PAGES if pages.steps(page)]


def test_the_readme_is_read_to_its_end() -> None:
    assert len(pages.README.read_text().splitlines()) <= 150


@pytest.mark.doit
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_what_a_page_shows_is_what_is_printed(page: Path, tmp_path: Path) -> None:
    here = tmp_path / "a folder"
    here.mkdir()
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LARDER_ARCH": "x86_64",
        # What is printed comes in its order, as on a terminal.
        "PYTHONUNBUFFERED": "1",
    }

    def larder(*words: str) -> None:
        program = Path(sys.executable).with_name("larder")
        subprocess.run([program, *words], cwd=here, env=environ, capture_output=True, timeout=120, check=True)

    with stages.stage(page, here, larder):
        pages.play(page, here, environ)


def test_each_block_is_run_or_says_why_not() -> None:
    """A page with commands is no exception by being new; what is no command has another word behind the fence."""
    for page in pages.PAGES:
        for block in pages.blocks(page):
            assert block.steps, f"{page.name}: a console block without a command:\n{block.text}"
        comments = re.findall(r"(?m)^<!-- (?:not run|first)\b", page.read_text())
        said = [word for block in pages.blocks(page) for word in (block.reason, block.first) if word]
        assert len(comments) == len(said), f"{page.name}: a comment for a block that does not stand before one"
    assert len(RUN) > 8


@pytest.mark.parametrize("page", [pages.README, *pages.SITE], ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    commands = [step.command for step in pages.steps(page)]
    commands += re.findall(r"`((?:larder|doit) [^`]+)`", text)
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```$", text):
        commands += re.findall(r"larder [^|&;>\n]+", block)
    kinds = {*KINDS, *manual.acts()}
    words = {*COMMANDS, *kinds, *catalogue.images(), *re.findall(r"task_(\w+)", text), *OWN}
    for command in commands:
        if re.match(r"(larder|doit)\s", command):
            word = next(
                (word.strip("'") for word in re.split(r"[\s;|&]+", command)[1:] if word and word[0] != "-"), "X"
            )
            kind, colon, _ = word.partition(":")
            assert kind in (kinds if colon else words) or word.isupper(), command


def test_the_page_of_commands_has_them_all() -> None:
    """Commands, what takes an image, single steps, variables."""
    page = (REPOSITORY / "docs" / "commands.md").read_text()
    entry_points = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]
    for name in entry_points["doit.COMMAND"]:
        assert re.search(rf"`larder {name}\b", page) or name in (*manual.OF_DOIT, "run"), name
    for name in manual.acts():
        assert f"{name}:NAME" in page, name
    for name in STEPS:
        assert re.search(rf"(`python -m recipes |likewise .*`){name}\b", page), name
    asked = re.findall(
        r'"(LARDER_[A-Z_]+)"', "".join(path.read_text() for path in (REPOSITORY / "recipes").rglob("*.py"))
    )
    assert len(set(asked)) >= 6
    for name in set(asked):
        assert re.search(rf"(?m)^\| `{name}(=1)?` \|", page), name


def test_the_page_of_images_toml_has_each_key() -> None:
    schema = json.loads((REPOSITORY / "schema" / "images.schema.json").read_text())
    tables = schema["properties"]
    image = tables["images"]["patternProperties"]["."]["properties"]
    page = (REPOSITORY / "docs" / "images-toml.md").read_text()
    for key in (*tables["cache"]["properties"], *image, *schema["definitions"]["source"]["properties"]):
        assert re.search(rf"(?m)^\|.*`{key}`.* \|| ^{key} *=|\.{key}\]", page) or f"\n{key} = " in page, key


def test_the_page_of_instances_has_each_format() -> None:
    page = (REPOSITORY / "docs" / "instances.md").read_text()
    table = page.split("| `--format` |")[1].split("\n\n")[0]
    first = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([\w-]+)`", first)) == {form for kind in DERIVABLE for form in clone.formats(kind)}


def test_links_lead_somewhere() -> None:
    for page in pages.PAGES:
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), (page.name, link)


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text())


def test_what_pages_declare_can_be_declared() -> None:
    """Where nothing is left out: the schema takes it, and so does larder."""
    schema = json.loads((REPOSITORY / "schema" / "images.schema.json").read_text())
    whole = 0
    for page in pages.PAGES:
        for block in fenced(page, "toml"):
            document = tomllib.loads(block)
            images = document.get(
                "images", {"some": {"x86_64": {"url": "https://example.org/", "digest": "sha256:" + "0" * 64}}}
            )
            if "…" not in block and all({"x86_64", "aarch64"} & set(image) for image in images.values()):
                jsonschema.validate({**document, "images": images}, schema)
                whole += 1
    assert whole > 5


def test_receipts_on_pages_are_receipts() -> None:
    schema = json.loads((REPOSITORY / "schema" / "receipt.schema.json").read_text())
    receipts = [json.loads(block) for page in pages.PAGES for block in fenced(page, "json")]
    assert receipts
    for receipt in receipts:
        jsonschema.validate(receipt, schema)


def test_each_page_is_found_from_the_first() -> None:
    first, readme = (page.read_text() for page in (REPOSITORY / "docs" / "index.md", pages.README))
    for page in pages.SITE:
        if page.name != "index.md":
            assert f"]({page.name})" in first, f"docs/index.md: {page.name}"
            assert f"](docs/{page.name}" in readme, f"README.md: docs/{page.name}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs mkdocs-material")
    done = subprocess.run(
        # With --quiet, warnings are not counted either.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    assert (tmp_path / "site" / "commands" / "index.html").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```console\n$ echo one; echo 12 MiB\none\n7 MiB\n```\n", None),
        ("```console\n$ false\n$ echo $?\n1\n```\n", None),
        ("<!-- first: echo > here -->\n\n```console\n$ ls\nhere\n```\n", None),
        ("<!-- not run: it takes a year -->\n\n```console\n$ false\nnothing\n```\n", None),
        ("```console\n$ echo one\ntwo\n```\n", r"\$ echo one"),
        ("```console\n$ false\n```\n", "exits with 1"),
        ("```console\n$ false\n$ echo\n```\n", "exits with 1"),
        ("```console\n$ false\n$ echo $?\n0\n```\n", "echo"),
    ],
)
def test_a_page_that_shows_something_else_is_found(text: str, said: str | None, tmp_path: Path) -> None:
    """The check itself."""
    page, folder = tmp_path / "page.md", tmp_path / "folder"
    folder.mkdir()
    page.write_text(text)
    with pytest.raises(AssertionError, match=said) if said else nullcontext():
        pages.play(page, folder, {"PATH": os.environ["PATH"]})


def sh(page: Path, heading: str) -> list[str]:
    """Return the blocks of commands below a heading."""
    section = re.split(r"(?m)^## ", page.read_text().split(f"\n## {heading}\n")[1])[0]
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", section)


@pytest.mark.long
def test_the_first_command_of_the_readme(tmp_path: Path) -> None:
    """From a checkout to a disk, with what PyPI has taken from here: neither that nor upstream is asked."""
    pytest.importorskip("editables")
    checkout, home = tmp_path / "a checkout", tmp_path / "home"
    home.mkdir()
    nothing = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", ".hypothesis", "hostile-findings")
    shutil.copytree(REPOSITORY, checkout, ignore=nothing)
    first, _tests = sh(pages.README, "Two commands")
    venv, pip, demo, real = first.strip().split(" && ")
    (tmp_path / "python3").symlink_to(sys.executable)
    environ = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(home),
        "LARDER_ARCH": "x86_64",
        "LARDER_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        # What pip understands as --no-build-isolation: https://github.com/pypa/pip/issues/5735
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_CONFIG_FILE": os.devnull,
    }

    def run(command: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-c", command]
        return subprocess.run(
            words, cwd=checkout, env=environ, capture_output=True, text=True, timeout=120, check=False
        )

    done = run(venv)
    assert done.returncode == 0, done.stderr
    (site,) = checkout.glob(".venv/lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    for command in (pip, demo):
        done = run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    assert list(home.glob(".cache/larder/images/demo/*/disk.raw"))
    done = run(real)
    assert (done.returncode, "the network is needed" in done.stdout + done.stderr) == (1, True), done


@pytest.mark.long
def test_the_instances_of_the_readme(tmp_path: Path) -> None:
    """QEMU starts the clone that the README makes; Lima, which no package has, is given what it is told to read."""
    for tool in ("nginx", "qemu-system-x86_64"):
        need(tool)
    here, served, prefix = tmp_path / "here", tmp_path / "served", tmp_path / "nginx"
    for folder in (here, served, prefix):
        folder.mkdir()
    (tmp_path / "limactl").write_text('#!/bin/sh\n[ "$1" = start ] && cp "$2" started.yaml\n')
    (tmp_path / "limactl").chmod(0o755)
    (served / "disk.qcow2").write_bytes(stages.DEMO)
    environ = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LARDER_ARCH": "x86_64",
    }
    (block,) = sh(pages.README, "Instances")
    with nginx(served, prefix) as server:
        names = set(re.findall(r"(?:clone|lima):(\S+)", block))
        assert names <= catalogue.images().keys()
        declared = "".join(stages.declared(name, f"{server.url}/disk.qcow2", stages.DEMO) for name in sorted(names))
        (here / "images.toml").write_text(declared)
        for command in block.splitlines():
            if command.startswith("qemu-system"):
                assert " -accel kvm -cpu host " in command
                words = shlex.split(command.replace(" -accel kvm -cpu host ", " "))
                assert boot.says(words, build.HELLO.strip(), here)
            elif command:
                done = subprocess.run(["bash", "-c", command], cwd=here, env=environ, capture_output=True, text=True)
                assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(r"images:\n- location: \S+", (here / "started.yaml").read_text())
    assert list(tmp_path.glob(".cache/lima/download/by-url-sha256/*/data"))


def test_each_disk_format_is_read_or_refused_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "refused.md").read_text()
    table = page.split("## Disk images")[1].split("## ")[0]
    for name in sorted(DISK_FORMATS | RAW_FORMATS):
        (row,) = (line for line in table.splitlines() if line.startswith("|") and f"`{name}`" in line)
        is_read = row.split("|")[2].strip() != ""
        assert is_read == (name in FORMATS or name in RAW_FORMATS), f"{name}: {row}"
    prose = page.split("## Compression and archives")[1].split("## ")[0]
    for name in CODECS:
        assert re.search(rf"\b{name}\b", prose), name
