"""What ``docker login`` left: docker's config.json, and the credential helpers that it names.

Sources: docker's reference of ``docker login``, "Credential stores" and "Credential helpers"; the protocol of the
helpers is that of docker/docker-credential-helpers.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipes import jsontext
from recipes.errors import FetchError
from recipes.reference import DOCKER_HUB

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What Docker Hub is called in config.json and by helpers.
_HUB_KEY = "https://index.docker.io/v1/"

#: Seconds for a helper, which may have to ask for the password of a keychain.
HELPER_TIMEOUT = 120.0

#: The user name by which a helper says that its secret is an identity token, and what it says when it has nothing.
_TOKEN_USER = "<token>"
_NOTHING = "credentials not found"


class CredentialError(FetchError):
    """The credentials for a registry cannot be read; no message holds any part of them."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a registry knows somebody by: name and password, or an identity token."""

    username: str = ""
    password: str = field(default="", repr=False)
    #: An OAuth2 refresh token; the others are empty then.
    identity_token: str = field(default="", repr=False)
    #: Where it is stored, for messages.
    place: str = field(default="", compare=False)

    def basic(self) -> str:
        """Return the value of Authorization (RFC 7617)."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


def find(host: str, environ: Mapping[str, str] | None = None) -> Login | None:
    """Return what there is for the registry `host`, as `recipes.reference.Reference` has it; None for nothing.

    A helper for the host goes first, then the general one (``credsStore``), then what is in config.json itself, which
    is in the folder DOCKER_CONFIG, by default ``~/.docker``. Errors: CredentialError.
    """
    environ = os.environ if environ is None else environ
    try:
        path = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    except RuntimeError:
        # Who has no home folder has logged in nowhere.
        return None
    config = _read(path)
    helpers = _table(config, "credHelpers", path)
    key = _HUB_KEY if host == DOCKER_HUB else host
    helper = helpers.get(key) or helpers.get(host) or config.get("credsStore")
    if helper and (login := _ask(helper, key)):
        return replace(login, place=f"docker-credential-{helper}")
    auths = _table(config, "auths", path)
    entry = auths.get(key) or next((auths[each] for each in auths if _host_of(each) == _host_of(key)), None)
    found = _login(entry, path, host) if entry else None
    return replace(found, place=str(path)) if found else None


def _read(path: Path) -> dict[str, Any]:
    try:
        config = jsontext.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from error
    except ValueError:
        # Not the reason: it would quote the file.
        raise CredentialError(f"{path} is not JSON") from None
    if not isinstance(config, dict):
        raise CredentialError(f"{path}: expected an object")
    return config


def _table(config: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise CredentialError(f"{path}: {key}: expected an object")
    return value


def _host_of(key: str) -> str:
    """Return the host of a key of ``auths``, which docker has written with and without scheme and path."""
    return re.sub(r"^https?://", "", key).partition("/")[0].lower()


def _login(entry: object, path: Path, host: str) -> Login | None:
    wrong = CredentialError(f"{path}: the entry for {host} cannot be used", hint=f"docker login {host}")
    if not isinstance(entry, dict):
        raise wrong
    if token := entry.get("identitytoken"):
        return Login(identity_token=str(token))
    username, password = entry.get("username"), entry.get("password")
    if not entry.get("auth") and isinstance(username, str) and isinstance(password, str):
        # What is written by hand, and by docker's older clients.
        return Login(username, password)
    if not entry.get("auth"):
        # What docker leaves where a helper has the rest.
        return None
    try:
        username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    except (ValueError, TypeError):
        raise wrong from None
    if not colon:
        raise wrong
    # Some tools pad the password with NUL, as docker itself allows for.
    return Login(username, password.rstrip("\0"))


def _ask(helper: object, key: str) -> Login | None:
    """Ask a helper for what it has for `key`."""
    if not isinstance(helper, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", helper):
        raise CredentialError(f"expected the name of a credential helper in docker's config.json, found {helper!r}")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_TIMEOUT)
    except OSError as error:
        raise CredentialError(
            f"cannot run {program}, which docker's config.json names: {error.strerror}",
            hint="install it, or remove it from docker's config.json",
        ) from error
    except subprocess.TimeoutExpired:
        raise CredentialError(f"{program} did not answer within {HELPER_TIMEOUT:g} s") from None
    if done.returncode != 0:
        said = (done.stdout.strip() or done.stderr.strip()).decode(errors="replace")
        if _NOTHING in said.lower():
            return None
        raise CredentialError(f"{program} failed: {said[:200] or f'exit status {done.returncode}'}")
    try:
        answer = jsontext.loads(done.stdout)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError):
        raise CredentialError(f"{program} did not answer with Username and Secret") from None
    if not isinstance(username, str) or not isinstance(secret, str):
        raise CredentialError(f"{program} did not answer with Username and Secret")
    return Login(identity_token=secret) if username == _TOKEN_USER else Login(username, secret)
