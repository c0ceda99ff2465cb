"""OpenPGP keys and signatures, made by the real gpg."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A text whose blanks, dashes and line ends a clear signature changes.
LIST = b"hello  list\n- dashed \nFrom here\n\nlast line\n"
#: Keys are made, and most documents signed, on this day. The clock stands still (!): it would go on from here with each
#: call, and a key that took a second to make would be from the future when it signs.
THEN = "20240101T000000!"


class Signer:
    """A GnuPG home with keys that can be used without a passphrase."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def gpg(self, *arguments: str, data: bytes = b"", when: str | None = THEN) -> bytes:
        faked = ["--faked-system-time", when] if when else []
        batch = ["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]
        environ = {**os.environ, "GNUPGHOME": str(self.home), "LC_ALL": "C"}
        run = subprocess.run(["gpg", *batch, *faked, *arguments], input=data, capture_output=True, env=environ)
        assert run.returncode == 0, run.stderr.decode()
        return run.stdout

    def make(self, name: str, *options: str, expire: str = "0", algorithm: str = "ed25519") -> None:
        self.gpg(*options, "--quick-gen-key", f"{name}@example.org", algorithm, "sign,cert", expire)

    def fingerprints(self, name: str) -> list[str]:
        """Return those of the primary key and of the subkeys."""
        listing = self.gpg("--with-colons", "--list-keys", f"={name}@example.org").decode()
        return re.findall(r"^fpr:+([0-9A-F]+):", listing, re.MULTILINE)

    def add_subkey(self, name: str, *options: str, expire: str = "0", algorithm: str = "ed25519") -> None:
        self.gpg(*options, "--quick-add-key", self.fingerprints(name)[0], algorithm, "sign", expire)

    def export(self, *names: str, armour: bool = False) -> bytes:
        form = ["--armor"] if armour else []
        return self.gpg(*form, "--export", *(f"={name}@example.org" for name in names))

    def sign(self, *names: str, how: str = "--detach-sign", options: tuple[str, ...] = (), data: bytes = LIST) -> bytes:
        users = [part for name in names for part in ("--local-user", f"{name}@example.org")]
        return self.gpg(*options, *users, "--output", "-", how, data=data)


@contextmanager
def home() -> Iterator[Signer]:
    """Make an empty GnuPG home, and stop its agent in the end."""
    # Not tmp_path: the path of the agent's socket must stay below 108 characters.
    path = tempfile.mkdtemp(prefix="larder-", dir="/tmp")
    try:
        yield Signer(Path(path))
    finally:
        subprocess.run(["gpgconf", "--homedir", path, "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(path, ignore_errors=True)
