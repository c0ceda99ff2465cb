from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.sources import retry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be somebody whom no registry knows; return the folder of docker's configuration, which is empty.

    Attempts follow each other quickly, and nothing in the environment stands between us and the servers.
    """
    monkeypatch.setattr(retry, "BACKOFF", 0.005)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder
