"""What `pip install` leaves on a fresh machine: the wheel in a virtual environment of its own, and an empty HOME."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.kit import pages, upstreams
from tests.kit.oracles import need
from tests.kit.project import OWN_DODO, disk
from tests.kit.servers import nginx

ROOT = Path(__file__).parents[1]
pytest.importorskip("hatchling")


class Machine:
    """A user with an empty home, in an empty folder with a space in its name."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.home = folder / "home"
        self.folder = folder / "an empty folder"
        self.programs = programs
        self.home.mkdir()
        self.folder.mkdir()
        kept = ("LANG", "LC_ALL", "TMPDIR")
        self.environ = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.home),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }

    def run(self, *words: str, folder: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program as the user would."""
        return subprocess.run(
            [self.programs / words[0], *words[1:]],
            cwd=folder or self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def ok(self, *words: str, folder: Path | None = None, **environ: str) -> str:
        """Run a program, which must succeed and complain of nothing; return what it printed."""
        done = self.run(*words, folder=folder, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, install it, and return the folder of its programs."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("larder_images-*.whl")
    machine = folder / "machine"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", machine], check=True)
    python = machine / "bin" / "python"
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", "--no-compile", str(wheel)]
    subprocess.run(install, check=True)
    # What larder depends on is taken from here, behind what was installed. A path in a .pth counts without the .pth
    # files in it, so the checkout that is installed here stays out of it.
    (site,) = machine.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    # A program of its own, as the entry points in the dependencies' folder say it.
    (machine / "bin" / "doit").write_text(f"#!{python}\nfrom doit.__main__ import main\nmain()\n")
    (machine / "bin" / "doit").chmod(0o755)
    asked = [str(python), "-c", "import recipes; print(recipes.__file__)"]
    assert str(site) in subprocess.run(asked, cwd=machine, capture_output=True, text=True, check=True).stdout
    return machine / "bin"


@pytest.fixture
def machine(tmp_path: Path, programs: Path) -> Machine:
    return Machine(tmp_path, programs)


def test_the_catalogue_is_there(machine: Machine) -> None:
    assert re.search(r"(?m)^ubuntu-24\.04 +x86_64 aarch64 ", machine.ok("larder", "list"))
    assert "raw:ubuntu-24.04" in machine.ok("larder", "list", "-q", "--all").split()
    assert machine.ok("larder", "--version").startswith("larder ")
    assert "larder raw:demo" in machine.ok("larder", "-h")
    assert not list(machine.folder.iterdir())
    assert [path.name for path in machine.home.iterdir()] == [".cache"]


def test_the_man_pages_are_there(machine: Machine) -> None:
    """Beside a bin/ in PATH man(1) looks into share/man."""
    need("mandb")
    for name, section in (("larder", 1), ("images.toml", 5)):
        page = machine.programs.parent / "share" / "man" / f"man{section}" / f"{name}.{section}"
        found = subprocess.run(["man", "-w", name], env=machine.environ, capture_output=True, text=True, check=True)
        assert found.stdout == f"{page}\n"
        assert f"larder {machine.ok('larder', '--version').split()[1]}" in page.read_text().splitlines()[0]


def test_what_the_readme_shows(machine: Machine) -> None:
    environ = {**machine.environ, "LARDER_ARCH": "x86_64", "PYTHONUNBUFFERED": "1"}
    pages.play(pages.README, machine.folder, environ)


@pytest.mark.parametrize("words", [["demo"], ["rootfs:demo"], ["vhdx:demo"], ["oci:demo"]])
def test_the_demo_needs_no_network(machine: Machine, words: list[str]) -> None:
    # A proxy that is not there: whoever asks the network fails.
    machine.environ |= {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
    machine.ok("larder", *words)
    machine.ok("larder", "clone:demo", "--to", "my disk.raw", "--size", "80MiB")
    assert (machine.folder / "my disk.raw").stat().st_size == 80 << 20
    assert [path.name for path in machine.folder.iterdir()] == ["my disk.raw"]
    path = Path(machine.ok("larder", "path", "raw:demo").strip())
    assert path.is_relative_to(machine.home)


def test_a_project_from_its_first_line_to_its_clone(machine: Machine, tmp_path: Path) -> None:
    """Add by name and by url, make, clone; a second project that shares the cache downloads nothing."""
    root, prefix = tmp_path / "root", tmp_path / "nginx"
    root.mkdir()
    prefix.mkdir()
    machine.ok("larder", "init", "demo")
    machine.ok("larder", "add", "debian-12")
    with nginx(root, prefix) as server:
        for number, name in enumerate(("SHA256SUMS", "FILE.sha512", "CHECKSUM")):
            (root / str(number)).mkdir()
            image = root / str(number) / "disk-amd64.img"
            image.write_bytes(disk(name))
            upstreams.shape(name, image)
            machine.ok("larder", "add", f"image-{number}", f"{server.url}/{number}/disk-amd64.img", LARDER_ARCH="amd64")
        machine.ok("larder", "raw:image-*", "raw:demo", LARDER_ARCH="amd64")
        second = tmp_path / "a second project"
        second.mkdir()
        for name in ("images.toml", "demo"):
            (second / name).symlink_to(machine.folder / name)
        said = machine.ok("larder", "clone:image-1", "--to", "disk.raw", folder=second, LARDER_ARCH="amd64")
        assert (second / "disk.raw").read_bytes() == disk("FILE.sha512")
        assert "-- raw:image-1\n" in said
        downloads = [line for line in server.log() if line.endswith("/1/disk-amd64.img")]
    assert len([line for line in downloads if line.split()[1] == str(len(disk("x")))]) == 1
    assert "image-2" in machine.ok("larder", "status", LARDER_ARCH="amd64")
    machine.ok("larder", "remove", "debian-12")
    assert "debian-12" not in (machine.folder / "images.toml").read_text()


def test_a_dodo_of_ones_own(machine: Machine) -> None:
    machine.ok("larder", "init")
    own = OWN_DODO.replace("raw:a", "raw:demo")
    (machine.folder / "dodo.py").write_text(own)
    machine.ok("doit", "use")
    assert machine.ok("larder", "use") == machine.ok("doit", "use") == "-- raw:demo\n-- use\n"


@pytest.mark.parametrize("example", ["github/larder.yml", "gitlab/.gitlab-ci.yml"])
def test_the_ci_examples_install_it(example: str, machine: Machine, programs: Path) -> None:
    text = (ROOT / "examples" / example).read_text()
    (command,) = set(re.findall(r"python3 -m venv \.venv && \.venv/bin/pip install .*", text))
    # The index has the wheel and nothing else.
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(programs.parents[1]), "PIP_NO_DEPS": "1"}
    index["PIP_CONFIG_FILE"] = os.devnull
    (machine.folder / "python3").symlink_to(sys.executable)
    environ = {**machine.environ, **index, "PATH": f"{machine.folder}:{machine.environ['PATH']}"}
    subprocess.run(["bash", "-ec", command], cwd=machine.folder, env=environ, check=True, capture_output=True)
    (site,) = machine.folder.glob(".venv/lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    installed = [str(machine.folder / ".venv" / "bin" / "larder"), "--version"]
    said = subprocess.run(installed, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("larder ")
