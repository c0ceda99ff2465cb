from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from recipes.errors import SettingsError
from recipes.settings import Settings, catalogue, expand, nearest, user_cache


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the user of a container that the container has not heard of."""

    def unknown(_: object) -> pwd.struct_passwd:
        raise KeyError("uid not found: 12345")

    for name in ("HOME", "XDG_CACHE_HOME", "LARDER_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
class TestWithoutAHome:
    def test_the_cache_is_to_be_named(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="nothing says where the cache goes") as caught:
            Settings.from_environ(tmp_path, {})
        assert "set LARDER_CACHE" in str(caught.value)

    def test_larder_cache_is_enough(self, tmp_path: Path) -> None:
        (tmp_path / "images.toml").touch()
        settings = Settings.from_environ(tmp_path, {"LARDER_CACHE": str(tmp_path / "cache")})
        assert (settings.cache, settings.images) == (tmp_path / "cache", tmp_path / "images.toml")

    def test_a_tilde_is_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"~/cache: ~ is no folder: HOME is not set"):
            Settings.from_environ(tmp_path, {"LARDER_CACHE": "~/cache"})

    def test_there_is_no_cache_of_anybody(self) -> None:
        assert user_cache("lima") is None


def test_the_platforms_cache_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings.from_environ(tmp_path, {}).cache.is_relative_to(tmp_path)


def test_a_user_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match=r"~no-such-user/x: .*there is no user called no-such-user"):
        expand("~no-such-user/x")


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/x") == tmp_path / "x"
    assert expand("x/~") == Path("x/~")


class TestImages:
    def test_of_the_nearest_folder_upwards(self, tmp_path: Path) -> None:
        below = tmp_path / "a" / "b"
        below.mkdir(parents=True)
        (tmp_path / "images.toml").touch()
        (below / "images.toml").mkdir()
        assert Settings.from_environ(below, {"LARDER_CACHE": "c"}).images == tmp_path / "images.toml"
        (tmp_path / "a" / "images.toml").touch()
        assert nearest("images.toml", below) == tmp_path / "a" / "images.toml"

    def test_of_the_catalogue(self, tmp_path: Path) -> None:
        assert Settings.from_environ(tmp_path, {"LARDER_CACHE": "c"}).images == catalogue()
        assert catalogue().is_file()

    def test_that_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "images.toml").touch()
        environ = {"LARDER_CACHE": "c", "LARDER_IMAGES": str(tmp_path / "mine.toml")}
        assert Settings.from_environ(tmp_path, environ).images == tmp_path / "mine.toml"
