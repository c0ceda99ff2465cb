"""What is sent to a registry, and what is not; pulling it back is test_pull.py's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from recipes.errors import FetchError, StoreError
from recipes.exchange import push
from recipes.exchange.manifest import EMPTY
from tests.kit.disks import damage
from tests.kit.machines import Machine
from tests.kit.project import disk
from tests.kit.registries import Keeping, refuse, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.servers import Exchange, Server

REPOSITORY = "acme/thing"


@pytest.fixture(autouse=True)
def _quickly(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "SETTLE", 0)


def machine(folder: Path, server: Server, *kinds: str, name: str = "thing") -> Machine:
    made = Machine(folder, server, name=name)
    for kind in kinds:
        made.entry.ask(kind)
        made.build(kind)
    return made


def sent(server: Server) -> int:
    return sum(len(seen.body) for seen in server.seen if seen.method in ("PATCH",))


def test_an_artifact_is_under_its_key_and_in_the_index(tmp_path: Path) -> None:
    keeping = Keeping()
    with misbehaving(keeping) as server:
        made = machine(tmp_path / "a", server, "raw")
        (pushed,) = made.push("raw")
    manifests = keeping.manifests[REPOSITORY]
    assert pushed.kind == "raw"
    assert pushed.reference.tag == made.key("raw")
    manifest = json.loads(manifests[made.key("raw")][0])
    (layer,) = manifest["layers"]
    assert pushed.sent == layer["size"] == len(keeping.blobs[REPOSITORY][layer["digest"]])
    assert pushed.sent < len(disk("thing"))
    assert sha256(EMPTY) in keeping.blobs[REPOSITORY]
    (tag,) = [each for each in manifests if ":" not in each and each != made.key("raw")]
    index: dict[str, Any] = json.loads(manifests[tag][0])
    assert [each["digest"] for each in index["manifests"]] == [sha256(manifests[made.key("raw")][0])]


def test_what_the_registry_has_is_not_sent(tmp_path: Path) -> None:
    with misbehaving(Keeping()) as server:
        made = machine(tmp_path / "a", server, "raw")
        made.push("raw")
        server.seen.clear()
        (again,) = made.push("raw")
        assert again.sent == 0
        assert sent(server) == 0


def test_a_lost_blob_is_sent_again_with_the_next_push(tmp_path: Path) -> None:
    keeping = Keeping()
    with misbehaving(keeping) as server:
        made = machine(tmp_path / "a", server, "raw")
        (first,) = made.push("raw")
        keeping.blobs[REPOSITORY].clear()
        (again,) = made.push("raw")
    assert again.sent == first.sent


def test_a_twin_is_mounted(tmp_path: Path) -> None:
    keeping = Keeping()
    with misbehaving(keeping) as server:
        machine(tmp_path / "a", server, "raw").push("raw")
        twin = machine(tmp_path / "b", server, "raw", name="twin")
        twin.identity = twin.identity._replace(urls=twin.identity.urls)
        server.seen.clear()
        (pushed,) = twin.push("raw", twins=("thing",))
        assert pushed.sent == 0
        assert any("mount=" in seen.path for seen in server.seen)
    assert keeping.blobs["acme/twin"].keys() >= {sha256(EMPTY)}


def test_what_was_replaced_or_damaged_is_not_passed_on(tmp_path: Path) -> None:
    keeping = Keeping()
    with misbehaving(keeping) as server:
        made = machine(tmp_path / "a", server, "fetch")
        damage(made.entry.artifact("fetch"))
        with pytest.raises(StoreError, match="expected sha256:") as caught:
            made.push("fetch")
    assert "larder verify --repair thing" in (caught.value.hint or "")
    assert made.key("fetch") not in keeping.manifests[REPOSITORY]


def test_a_registry_that_loses_what_it_is_sent_is_given_up(tmp_path: Path) -> None:
    def hook(exchange: Exchange) -> bool:
        if exchange.command == "PUT" and "/manifests/" in exchange.path:
            refuse(exchange, 400, "MANIFEST_BLOB_UNKNOWN", "blob unknown")
            return True
        return False

    with misbehaving(Keeping(hook)) as server:
        made = machine(tmp_path / "a", server, "raw")
        with pytest.raises(FetchError, match="given up after 3 attempts") as caught:
            made.push("raw")
    assert "collects garbage" in (caught.value.hint or "")
    assert len([note for note in made.progress.notes if "sending it again" in note]) == 2


def test_an_artifact_that_cannot_be_read(tmp_path: Path) -> None:
    with misbehaving(Keeping()) as server:
        made = machine(tmp_path / "a", server, "raw")
        made.entry.artifact("raw").unlink()
        with pytest.raises(StoreError, match="cannot be read"):
            made.push("raw")
