from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from recipes.derive.fetch import RECIPE, parameters
from recipes.errors import DigestMismatch, OfflineError
from recipes.model import Digest
from tests.kit.machines import Machine
from tests.kit.project import disk, sha256
from tests.kit.servers import misbehaving

if TYPE_CHECKING:
    from pathlib import Path


def machine(folder: Path) -> Machine:
    return Machine(folder / "machine", "registry.invalid")


def test_the_wrapper_and_who_served_it(tmp_path: Path) -> None:
    made = machine(tmp_path)
    receipt = made.build("fetch")
    assert made.entry.artifact("fetch").read_bytes() == disk("thing")
    assert receipt.artifact.digest == made.identity.digest
    assert receipt.served is not None
    assert receipt.served.url == made.identity.urls[0]
    assert not made.entry.part.exists()


def test_other_bytes_are_never_published(tmp_path: Path) -> None:
    made = machine(tmp_path)
    made.identity = made.identity._replace(digest=Digest.parse(sha256(b"other")))
    with pytest.raises(DigestMismatch):
        made.build("fetch")
    assert made.entry.receipt("fetch") is None
    assert not made.entry.artifact("fetch").exists()


@pytest.mark.usefixtures("quick_and_alone")
def test_nobody_is_asked_offline(tmp_path: Path) -> None:
    made = machine(tmp_path)
    with misbehaving(lambda exchange: exchange.file(disk("thing"))) as server:
        made.identity = made.identity._replace(urls=(f"{server.url}/a.img",))
        made.session.limits = type(made.session.limits)({}, 1 << 40, 1, offline=True)
        with pytest.raises(OfflineError):
            made.build("fetch")
    assert server.seen == []


def test_one_digest_of_an_index_stands_for_several_images(tmp_path: Path) -> None:
    made = machine(tmp_path)
    assert parameters(made.image, made.identity) == {}
    oci = made.image._replace(kind="oci")
    assert parameters(oci, made.identity) == {"arch": "x86_64"}
    assert parameters(oci._replace(arch="aarch64"), made.identity) != parameters(oci, made.identity)
    assert RECIPE.name == "fetch/1"
