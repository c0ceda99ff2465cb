from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from recipes.derive.oci import parameters, reference
from recipes.formats.io import blkhash
from recipes.progress import SILENT_METER
from tests.kit.machines import Machine
from tests.kit.oci_images import file, folder, tar

if TYPE_CHECKING:
    from pathlib import Path

ROOT = tar(folder("etc"), file("etc/os-release", b"ID=test\n"))


def machine(path: Path, **image: Any) -> Machine:
    made = Machine(path, "registry.invalid", data=ROOT)
    made.image = made.image._replace(kind="rootfs", derive=("oci",), **image)
    return made


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return manifest and config."""
    with tarfile.open(path) as archive:

        def document(name: str) -> dict[str, Any]:
            member = archive.extractfile(name)
            assert member is not None
            found: dict[str, Any] = json.load(member)
            return found

        manifest = document("blobs/" + document("index.json")["manifests"][0]["digest"].replace(":", "/"))
        return manifest, document("blobs/" + manifest["config"]["digest"].replace(":", "/"))


def test_one_layer_and_what_it_is(tmp_path: Path) -> None:
    made = machine(tmp_path / "a", title="A thing")
    receipt = made.build("oci")
    path = made.entry.artifact("oci")
    manifest, config = read(path)
    assert len(manifest["layers"]) == 1
    assert (config["os"], config["architecture"]) == ("linux", "amd64")
    labels = config["config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == "A thing"
    assert labels["org.opencontainers.image.revision"] == str(made.identity.digest)
    assert receipt.artifact.blkhash == blkhash.of_file(path, jobs=1, meter=SILENT_METER)


def test_the_same_again(tmp_path: Path) -> None:
    one, other = machine(tmp_path / "a"), machine(tmp_path / "b")
    other.identity = one.identity._replace(urls=one.identity.urls)
    assert one.build("oci").artifact.blkhash == other.build("oci").artifact.blkhash


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("debian-13", "localhost/debian-13:latest"), ("a_b.c", "localhost/a_b.c:latest"), ("x+y", "localhost/x-y:latest")],
)
def test_what_clients_call_it(name: str, wanted: str) -> None:
    assert reference(name).startswith("localhost/")
    if "+" not in name:
        assert reference(name) == wanted


@pytest.mark.parametrize("change", [{"title": "x"}, {"compression": "zstd"}, {"name": "other"}, {"arch": "aarch64"}])
def test_what_the_archive_says_is_part_of_its_key(tmp_path: Path, change: dict[str, Any]) -> None:
    made = machine(tmp_path / "a")
    assert parameters(made.image._replace(**change), made.identity) != parameters(made.image, made.identity)


def test_no_secret_of_a_url_is_in_it(tmp_path: Path) -> None:
    made = machine(tmp_path / "a")
    identity = made.identity._replace(urls=("https://me:sesame@h.example/a.tar?sig=secret",))
    assert "sesame" not in str(parameters(made.image, identity))
