"""Tab, in the real shells."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.project import catalogue
from tests.kit.oracles import need
from tests.kit.project import disk

if TYPE_CHECKING:
    from tests.kit.project import Project

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(larder completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -D; eval "$(larder completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "larder completion fish | source"),
}


class Shell:
    """A shell on a terminal."""

    def __init__(self, name: str, project: Project) -> None:
        words, script = SHELLS[name]
        environ = {
            **project.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TERM": "dumb" if name != "fish" else "xterm",
            "PS1": "> ",
            "HOME": str(project.folder),
        }
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            words,
            cwd=project.folder,
            env=environ,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # fish wants a terminal that is its own.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.told(f"{script}; echo rea''dy\n", "ready")

    def told(self, text: str, until: str) -> str:
        """Type `text`, and return what is on the screen once `until` is there."""
        os.write(self.master, text.encode())
        seen, end = "", time.monotonic() + 60
        while until not in seen:
            left = end - time.monotonic()
            assert left > 0, seen
            if select.select([self.master], [], [], left)[0]:
                seen += os.read(self.master, 65536).decode(errors="replace")
        return seen

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.mark.long
@pytest.mark.parametrize("name", SHELLS)
def test_tab(name: str, bare: Project) -> None:
    need(name)
    bare.declare("a-long-name", disk("a"))
    shell = Shell(name, bare)
    try:
        # Each is the only word that it can become, and the last one begins where a colon is.
        for typed, whole in (
            ("larder stat", "larder status "),
            ("larder raw:a-l", "raw:a-long-name"),
            ("larder verify --rep", "--repair"),
            ("larder clone:a-long-name --mode=c", "--mode=copy"),
            ("larder help a-long-name verif", "verify"),
        ):
            shell.told(f"{typed}\t", whole[len(typed) - 3 :] if typed in whole else whole.split(typed.split()[-1])[-1])
            shell.told("\x15\n", "")
    finally:
        shell.close()


def words(project: Project, current: str, *before: str) -> set[str]:
    return set(project.larder_ok("completion", "words", "--", current, *before).split())


class TestWords:
    def test_commands_kinds_and_names(self, bare: Project) -> None:
        found = words(bare, "")
        assert {"status", "raw:", "clone:", "a"} <= found
        assert "dumpdb" not in found
        assert words(bare, "raw:") == {"raw:a"}
        assert words(bare, "nonsense:") == set()
        assert words(bare, "", "path") >= {"raw:"}
        assert "a" not in words(bare, "", "path")
        assert {"a", "raw:"} <= words(bare, "", "status", "--offline")

    def test_an_image_has_the_kinds_that_can_be_made_of_it(self, bare: Project) -> None:
        bare.declare("root", b"x", "root.tar", kind="rootfs")
        assert words(bare, "raw:") == {"raw:a"}
        assert words(bare, "vhdx:") == {"vhdx:a", "vhdx:root"}
        assert words(bare, "clone:") == {"clone:a", "clone:root"}

    def test_options_and_what_they_take(self, bare: Project) -> None:
        assert {"--json", "--arch"} <= words(bare, "--", "status")
        assert "--to" in words(bare, "--", "clone:a")
        assert "--mode=" in words(bare, "--mo", "clone:a")
        assert words(bare, "", "clone:a", "--mode") == {"auto", "reflink", "hardlink", "copy"}
        assert words(bare, "--mode=c", "clone:a") == {"--mode=copy"}
        assert words(bare, "", "clone:a", "--to") == set(), "the shell has files"

    def test_the_catalogue(self, bare: Project) -> None:
        assert words(bare, "", "add") == set(catalogue.images())
        assert "demo" in words(bare, "de", "init")

    def test_a_file_with_something_wrong_in_it(self, bare: Project) -> None:
        (bare.folder / "images.toml").write_text("[images.a]\nodd = 1\n")
        assert "status" in words(bare, "st")
        assert words(bare, "raw:") == set()


@pytest.mark.parametrize("said", [[], ["tcsh"], ["bash", "zsh"]])
def test_what_there_is_no_script_for(bare: Project, said: list[str]) -> None:
    result = bare.larder("completion", *said)
    assert "completion: expected bash, zsh or fish" in result.err
    assert result.status == 3


def test_an_empty_word_elsewhere(bare: Project) -> None:
    result = bare.larder("status", "")
    assert (result.status, result.err) == (
        3,
        "expected words, got an empty one\n  hint: is a variable of the shell unset?\n",
    )
