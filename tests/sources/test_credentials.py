from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from recipes.sources import credentials as module
from recipes.sources.credentials import CredentialError, Login, find

if TYPE_CHECKING:
    from pathlib import Path

HUB = "https://index.docker.io/v1/"


def auth(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


class Docker:
    """A folder of docker's configuration, and one of credential helpers in PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = folder / "config.json"
        self._bin = folder / "bin"
        self._bin.mkdir()
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))
        monkeypatch.setenv("PATH", f"{self._bin}{os.pathsep}{os.environ['PATH']}")

    def write(self, **config: Any) -> None:
        self.config.write_text(json.dumps(config))

    def helper(self, name: str, script: str) -> None:
        """Install a helper, a shell script that finds what it was asked for in $server."""
        path = self._bin / f"docker-credential-{name}"
        path.write_text(f'#!/bin/sh\n[ "$*" = get ] || exit 9\nserver=$(cat)\n{script}\n')
        path.chmod(0o755)

    def answering(self, name: str, username: str, secret: str) -> None:
        answer = json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
        self.helper(name, f"echo '{answer}'")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    return Docker(tmp_path, monkeypatch)


class TestConfig:
    def test_nobody_is_logged_in(self, docker: Docker) -> None:
        assert find("ghcr.io") is None
        docker.write(auths={"quay.io": auth("me", "secret")})
        assert find("ghcr.io") is None

    def test_it_is_in_the_home_by_default(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {"ghcr.io": auth("me", "secret")}}))
        monkeypatch.setenv("HOME", str(tmp_path))
        assert find("ghcr.io", {}) == Login("me", "secret")

    @pytest.mark.parametrize(
        ("host", "key"),
        [
            ("ghcr.io", "ghcr.io"),
            ("ghcr.io", "https://ghcr.io"),
            ("ghcr.io", "https://GHCR.io/v1/"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2/"),
            ("docker.io", HUB),
            ("docker.io", "index.docker.io"),
        ],
    )
    def test_what_a_registry_is_called(self, docker: Docker, host: str, key: str) -> None:
        docker.write(auths={"other": {}, key: auth("me", "a:b c")})
        assert find(host) == Login("me", "a:b c")

    def test_another_port_is_another_registry(self, docker: Docker) -> None:
        docker.write(auths={"localhost:5000": auth("me", "secret")})
        assert find("localhost:5001") is None
        assert find("localhost") is None

    def test_an_identity_token(self, docker: Docker) -> None:
        docker.write(auths={"acme.example": {**auth("00000000-0000", ""), "identitytoken": "refresh"}})
        assert find("acme.example") == Login(identity_token="refresh")

    def test_a_name_and_a_password_as_they_are(self, docker: Docker) -> None:
        docker.write(auths={"ghcr.io": {"username": "me", "password": "secret"}})
        found = find("ghcr.io")
        assert found == Login("me", "secret")
        assert found is not None
        assert found.place == str(docker.config)
        assert "secret" not in repr(found)

    def test_an_entry_without_anything(self, docker: Docker) -> None:
        docker.write(auths={"ghcr.io": {}})
        assert find("ghcr.io") is None

    @pytest.mark.parametrize(
        "text",
        ["{secret", "[1]", '{"auths": 1}', '{"auths": {"ghcr.io": "secret"}}', '{"credHelpers": []  , "auths":[1]}'],
    )
    def test_what_cannot_be_used(self, docker: Docker, text: str) -> None:
        docker.config.write_text(text)
        with pytest.raises(CredentialError, match=r"config\.json") as caught:
            find("ghcr.io")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("value", ["secret", "!!", base64.b64encode(b"secret").decode(), 7])
    def test_an_auth_that_is_none(self, docker: Docker, value: object) -> None:
        docker.write(auths={"ghcr.io": {"auth": value}})
        with pytest.raises(CredentialError, match=r"the entry for ghcr\.io cannot be used") as caught:
            find("ghcr.io")
        assert caught.value.hint == "docker login ghcr.io"

    def test_what_nobody_should_see(self) -> None:
        assert "secret" not in repr(Login("me", "secret", "secret"))
        assert Login("me", "pass").basic() == "Basic bWU6cGFzcw=="


class TestHelpers:
    def test_one_for_a_registry_goes_before_the_general_one(self, docker: Docker) -> None:
        docker.answering("one", "one", "1")
        docker.answering("all", "all", "2")
        docker.write(credsStore="all", credHelpers={"ghcr.io": "one"}, auths={"ghcr.io": {}})
        assert find("ghcr.io") == Login("one", "1")
        assert find("quay.io") == Login("all", "2")

    @pytest.mark.parametrize(("host", "asked"), [("docker.io", HUB), ("ghcr.io", "ghcr.io")])
    def test_what_it_is_asked(self, docker: Docker, host: str, asked: str) -> None:
        docker.helper("echo", 'printf \'{"Username": "%s", "Secret": "s"}\' "$server"')
        docker.write(credsStore="echo")
        assert find(host) == Login(asked, "s")

    def test_an_identity_token(self, docker: Docker) -> None:
        docker.answering("token", "<token>", "refresh")
        docker.write(credsStore="token")
        assert find("ghcr.io") == Login(identity_token="refresh")

    def test_one_that_has_nothing(self, docker: Docker) -> None:
        docker.helper("none", "echo credentials not found in native keychain; exit 1")
        docker.write(credsStore="none", auths={"ghcr.io": auth("me", "secret")})
        assert find("quay.io") is None
        assert find("ghcr.io") == Login("me", "secret")

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            ("echo the keychain is locked; exit 1", "docker-credential-bad failed: the keychain is locked"),
            ("echo no display >&2; exit 3", "failed: no display"),
            ("exit 3", "failed: exit status 3"),
            ("echo secret", "did not answer with Username and Secret"),
            ("echo '[1]'", "did not answer with Username and Secret"),
            ('echo \'{"Username": 1, "Secret": "secret"}\'', "did not answer with Username and Secret"),
        ],
    )
    def test_one_that_fails(self, docker: Docker, script: str, reason: str) -> None:
        docker.helper("bad", script)
        docker.write(credsStore="bad")
        with pytest.raises(CredentialError, match=reason) as caught:
            find("ghcr.io")
        assert "secret" not in str(caught.value)

    def test_one_that_hangs(self, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "HELPER_TIMEOUT", 0.1)
        docker.helper("slow", "exec sleep 60")
        docker.write(credsStore="slow")
        with pytest.raises(CredentialError, match=r"docker-credential-slow did not answer within 0\.1 s"):
            find("ghcr.io")

    def test_one_that_is_not_there(self, docker: Docker) -> None:
        docker.write(credsStore="desktop")
        with pytest.raises(CredentialError, match=r"cannot run docker-credential-desktop.*: No such file"):
            find("ghcr.io")

    @pytest.mark.parametrize("name", ["../evil", "a b", "-x", 7])
    def test_what_is_no_name_of_one(self, docker: Docker, name: object) -> None:
        docker.write(credsStore=name)
        with pytest.raises(CredentialError, match="expected the name of a credential helper"):
            find("ghcr.io")
