"""Every Python that larder says it runs on has wheels of all that it needs, on every platform."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
PLATFORMS = {
    "linux-x86_64": ("linux", ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]),
    "linux-aarch64": ("linux", ["manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"]),
    "macos-arm64": ("darwin", ["macosx_14_0_arm64"]),
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")


def required(python: str, system: str) -> list[str]:
    """Return what has to be installed for a version of Python; pip would ask the one that runs it."""
    found = map(Requirement, PYPROJECT["project"]["dependencies"])
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system}
    return [f"{each.name}{each.specifier}" for each in found if not each.marker or each.marker.evaluate(environment)]


def pip(*words: str) -> str:
    """Return what pip has against a set of packages."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--dry-run", "--ignore-installed", "--only-binary=:all:", "--retries=0", "--timeout=10"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=300, check=False)
    return "" if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where there is no index of packages to ask."""
    if said := pip("--no-deps", "--target", str(tmp_path_factory.mktemp("x")), "packaging"):
        pytest.skip(f"needs an index of packages: {said.strip().splitlines()[-1]}")


@pytest.mark.long
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_wheels_alone_are_enough(index: None, tmp_path: Path, python: str, platform: str) -> None:
    system, tags = PLATFORMS[platform]
    words = ["--python-version", python, "--target", str(tmp_path), *(f"--platform={tag}" for tag in tags)]
    assert pip(*words, *required(python, system)) == ""


@pytest.mark.parametrize("python", PYTHONS)
def test_there_is_a_libzstd(python: str) -> None:
    has_package = any(each.startswith("zstandard") for each in required(python, "linux"))
    # PEP 784.
    assert has_package or tuple(map(int, python.split("."))) >= (3, 14)
