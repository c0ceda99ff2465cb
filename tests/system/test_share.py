"""One conversion for several machines, through docker's own registry: open, and with a password and TLS."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit import debian
from tests.kit.oracles import lack, need
from tests.kit.project import Project, sha256
from tests.kit.servers import docker_registry, nginx, self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.system

#: Runs a command where nothing can be reached but the registry with the configuration `$1`, on the port `$2`.
_ALONE = """
ip link set lo up
docker-registry serve "$1" >/dev/null 2>&1 &
trap 'status=$?; kill $!; wait $! || exit $status' EXIT
until (: <>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; do sleep 0.05; done
shift 2
"$@"
"""


def run(*command: str | Path, **environ: str) -> str:
    need(str(command[0]))
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **environ}).stdout


@dataclass(frozen=True)
class Shared:
    """What machine A has pushed, and how others come to it."""

    host: str
    folder: Path
    a: Project
    #: What curl takes to be let in, and what skopeo does.
    curl: tuple[str, ...]
    skopeo: tuple[str, ...]
    #: What makes doit somebody whom the registry knows.
    known: Mapping[str, str]
    scheme: str = "http"

    @property
    def repository(self) -> str:
        return f"{self.host}/acme/images/debian"

    def receipt(self) -> dict[str, Any]:
        return self.a.receipt("debian", "raw")


def declare(project: Project, url: str, digest: str, registry: str) -> None:
    project.declared["debian"] = {"derive": ["raw"], "source": {"url": url, "digest": digest}}
    project.write(f'[cache]\nregistry = "{registry}/acme/images"\n')


@pytest.fixture(scope="module", params=["open", "password"])
def shared(request: pytest.FixtureRequest, qcow2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Machine A has made the RAW of a Debian that nginx serves, and pushed it."""
    folder = tmp_path_factory.mktemp("share")
    (folder / "docker").mkdir()
    curl: tuple[str, ...] = ()
    skopeo: tuple[str, ...] = ("--tls-verify=false",)
    known = {"DOCKER_CONFIG": str(folder / "docker")}
    options: dict[str, Any] = {}
    if request.param == "password":
        need("htpasswd")
        _, certificate = self_signed(folder)
        (folder / "users").write_text(run("htpasswd", "-Bbn", "somebody", "secret"))
        options = {"htpasswd": folder / "users", "tls": (certificate, folder / "key.pem")}
        curl = ("--cacert", str(certificate), "--user", "somebody:secret")
        skopeo = (*skopeo, "--creds=somebody:secret")
        known["REQUESTS_CA_BUNDLE"] = str(certificate)
    (folder / "a").mkdir()
    a = Project(folder / "a")
    with nginx(qcow2.parent, _empty(folder / "nginx")) as upstream:
        url = f"{upstream.url}/{qcow2.name}"
        digest = sha256(qcow2.read_bytes())
        with docker_registry(folder / "registry", **options) as host:
            auth = base64.b64encode(b"somebody:secret").decode()
            (folder / "docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
            declare(a, url, digest, host)
            a.ok("push:debian", **known)
            yield Shared(host, folder, a, curl, skopeo, known, "https" if options else "http")


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_another_machine_has_the_same_bytes_without_fetching(shared: Shared, tmp_path: Path) -> None:
    need("docker-registry", "ip", "unshare", "bash", "qemu-img")
    if os.getuid() != 0:
        lack("a network namespace takes root")
    b = Project(tmp_path)
    source = shared.a.declared["debian"]["source"]
    declare(b, source["url"], source["digest"], shared.host)
    # Another registry on the same data, where there is no other network.
    alone = ("unshare", "--net", "bash", "-ec", _ALONE, "bash")
    port = shared.host.rpartition(":")[2]
    b.prefix = (*alone, str(shared.folder / "registry" / "config.yml"), port)
    assert b.executed("raw:debian", **shared.known) == {"resolve:debian", "pull:debian"}
    assert b.files("debian") == {"disk.raw", "raw.json"}
    run(
        "qemu-img",
        "compare",
        "-q",
        "-f",
        "raw",
        "-F",
        "raw",
        *(each.entry("debian") / "disk.raw" for each in (shared.a, b)),
    )
    receipt = b.receipt("debian", "raw")
    assert receipt["artifact"]["blkhash"] == shared.receipt()["artifact"]["blkhash"]
    assert receipt["pulled"]["reference"] == f"oci://{shared.repository}:{receipt['key']}"
    b.prefix = ()
    assert "ok" in b.ok("verify")
    # There the artifact is, and nobody is asked again.
    assert b.executed("raw:debian", LARDER_OFFLINE="1") == set()
    allocated = [(each.entry("debian") / "disk.raw").stat().st_blocks * 512 for each in (shared.a, b)]
    assert allocated[1] < allocated[0] * 1.05


def test_one_that_is_not_known_makes_it_itself(shared: Shared, tmp_path: Path) -> None:
    b = Project(tmp_path)
    source = shared.a.declared["debian"]["source"]
    declare(b, source["url"], source["digest"], shared.host)
    (tmp_path / "docker").mkdir()
    out = b.ok("raw:debian", DOCKER_CONFIG=str(tmp_path / "docker"), **_without(shared.known, "DOCKER_CONFIG"))
    if shared.scheme == "https":
        assert out.count("docker login") == 1
        assert "pulled" not in b.receipt("debian", "raw")
    else:
        assert "raw:debian: pulled from" in out


def _without(mapping: Mapping[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in mapping.items() if name != key}


def test_there_is_nothing_to_push_again(shared: Shared) -> None:
    assert "nothing to send" in shared.a.ok("push:debian", **shared.known)


def test_skopeo_inspects_and_copies_it(shared: Shared, tmp_path: Path) -> None:
    options = tuple(f"--src-{each.removeprefix('--')}" for each in shared.skopeo)
    index = json.loads(run("skopeo", "inspect", "--raw", *shared.skopeo, f"docker://{shared.repository}:latest"))
    (entry,) = index["manifests"]
    assert entry["platform"] == {"architecture": "x86_64", "os": "linux"}
    assert entry["annotations"]["disktype"] == "raw"
    by_key = f"docker://{shared.repository}:{shared.receipt()['key']}"
    manifest = json.loads(run("skopeo", "inspect", "--raw", *shared.skopeo, by_key))
    assert manifest["artifactType"] == "application/vnd.larder.artifact.v1"
    run("skopeo", "copy", "-q", "--preserve-digests", *options, by_key, f"dir:{_empty(tmp_path / 'one')}")
    (layer,) = manifest["layers"]
    copied = tmp_path / "one" / layer["digest"].partition(":")[2]
    assert copied.stat().st_size == layer["size"]
    # Some releases write an index anew, and then without what image-spec 1.1 has added.
    latest = f"docker://{shared.repository}:latest"
    run("skopeo", "copy", "-q", "--all", *options, latest, f"oci:{tmp_path / 'layout'}:t")
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    assert (blobs / copied.name).stat().st_size == layer["size"]
    assert (blobs / entry["digest"].partition(":")[2]).stat().st_size == entry["size"]


def test_curl_and_zstd_make_the_disk_of_it(shared: Shared, tmp_path: Path) -> None:
    """By the distribution-spec alone, as podman picks it: index, manifest, blob."""
    need("curl", "zstd", "qemu-img")
    base = f"{shared.scheme}://{shared.repository.replace('/', '/v2/', 1)}"

    def get(what: str, *options: str) -> str:
        return run("curl", "-sSf", *shared.curl, *options, f"{base}/{what}")

    accept = ("-H", "Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json")
    index = json.loads(get("manifests/latest", *accept))
    wanted = {"architecture": "x86_64", "os": "linux"}
    (found,) = [
        each
        for each in index["manifests"]
        if each["annotations"].get("disktype") == "raw" and each["platform"] == wanted
    ]
    (layer,) = json.loads(get(f"manifests/{found['digest']}", *accept))["layers"]
    title = layer["annotations"]["org.opencontainers.image.title"]
    assert title == "debian.x86_64.raw.zst"
    get(f"blobs/{layer['digest']}", "-L", "-o", str(tmp_path / title))
    run("zstd", "-q", "-d", "--sparse", str(tmp_path / title))
    disk = shared.a.entry("debian") / "disk.raw"
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", tmp_path / "debian.x86_64.raw", disk)


def test_oras_pulls_it(shared: Shared, tmp_path: Path) -> None:
    """With the client for Python: no distribution that the tests run on has a package of the other one."""
    script = (
        "import sys; from oras.client import OrasClient; scheme, host, target, folder = sys.argv[1:]\n"
        "client = OrasClient(hostname=host, insecure=scheme == 'http', tls_verify=False, auth_backend='basic')\n"
        "client.auth.set_basic_auth('somebody', 'secret')\n"
        "client.pull(target=target, outdir=folder)"
    )
    target = f"{shared.repository}:{shared.receipt()['key']}"
    run(sys.executable, "-c", script, shared.scheme, shared.host, target, tmp_path)
    layer, disk = tmp_path / "debian.x86_64.raw.zst", shared.a.entry("debian") / "disk.raw"
    need("zstd", "qemu-img")
    run("zstd", "-q", "-d", "--sparse", layer)
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", layer.with_suffix(""), disk)


def test_it_travels_at_the_size_of_its_compressed_data(shared: Shared, image: debian.Debian) -> None:
    by_key = f"docker://{shared.repository}:{shared.receipt()['key']}"
    (layer,) = json.loads(run("skopeo", "inspect", "--raw", *shared.skopeo, by_key))["layers"]
    zstd = debian.once(
        image.folder / "debian.raw.zst", lambda path: debian.run("zstd", "-q", "-T0", "-o", path, image.raw)
    )
    assert layer["size"] < zstd.stat().st_size * 1.02
