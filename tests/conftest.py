"""Fixtures of more than one room."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from recipes.sources import retry
from tests.kit.project import Project, disk

#: What takes long, by the beginning of its path below tests/: campaigns, bombs, kills and crowds, and what is held in
#: every variant against real tools and misbehaving servers.
_LONG = (
    "hostile/",
    "faults/",
    "crowds/",
    "formats/fs/btrfs/test_commands.py",
    "formats/fs/btrfs/test_more.py",
    "formats/fs/btrfs/test_read.py",
    "formats/fs/btrfs/test_refusals.py",
    "formats/fs/btrfs/test_subvolumes.py",
    "formats/fs/ext4/test_damage.py",
    "formats/fs/ext4/test_read.py",
    "formats/fs/ext4/test_write.py",
    "formats/fs/xfs/",
    "formats/fs/test_mounts.py",
    "formats/fs/test_root.py",
    "formats/codec/test_compression.py",
    "formats/disk/test_convert.py",
    "formats/disk/vhdx/",
    "formats/wrapper/",
    "exchange/test_pull.py",
    "export/test_lima.py",
    "declare/test_tomlpos.py",
    "sources/test_hostile_servers.py",
    "sources/test_nginx.py",
    "sources/test_openpgp.py",
    "test_main.py",
    "test_wheel.py",
)
_TESTS = Path(__file__).parent
#: What a module that starts the program has of tests/kit/project.py.
_STARTS = frozenset({"Project", "DOIT"})
#: What a module has of tests/kit/spaces.py that works with a project in its own process.
_IN_PROCESS = "opened"


def pytest_configure() -> None:
    """Hear SIGINT: a shell has what it starts in the background ignore it, and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts the program, and what takes long, so that the rest can be run alone."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        names = vars(getattr(item, "module", item)).keys()
        if ({"project", "bare"} & fixtures or _STARTS & names) and _IN_PROCESS not in names:
            item.add_marker("doit")
        if item.path.relative_to(_TESTS).as_posix().startswith(_LONG):
            item.add_marker("long")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project of its own, in an empty folder."""
    return Project(tmp_path)


@pytest.fixture
def bare(project: Project) -> Project:
    """Return a project without a dodo.py, with an image `a`."""
    (project.folder / "dodo.py").unlink()
    project.declare("a", disk("a"))
    return project


@pytest.fixture
def quick_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts follow each other quickly, and nothing in the environment stand between us and the servers."""
    monkeypatch.setattr(retry, "BACKOFF", 0.001)
    monkeypatch.setattr(retry, "_down", set())
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_and_alone: None) -> Path:
    """Be somebody whom no registry knows; return the folder of docker's configuration, which is empty."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Return where a download goes."""
    return tmp_path / "wrapper.part"
