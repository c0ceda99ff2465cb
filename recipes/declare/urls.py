"""The urls of images.toml: which there are, and what their names say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from recipes.reference import is_layout, serves_by_digest

from .findings import Findings, strings
from .validate import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path as Folder

    from recipes.model import Kind

    from .tomlpos import Path

_HOST = r"(?:https?://[^\s/?#*]+|file://(?:localhost)?)/"
#: How the url of an image in a registry begins.
OCI = "oci://"
_URL = re.compile(rf"({_HOST}(?:[^\s?#]*/)?)([^\s/?#]*)(\?[^\s#]*)?")
_PREFIX = re.compile(rf"(?:{_HOST}|oci://[^\s/?#*]+/)(?:[^\s?#*]*/)?")
# A name that ends otherwise may be either: only its content tells.
_CERTAIN: Mapping[Kind, re.Pattern[str]] = {
    "disk": re.compile(r"\.((qcow2|raw|img|iso|vmdk|vdi|vhdx?)(\.(gz|xz|bz2|zst))?|ova|box)$", re.IGNORECASE),
    "rootfs": re.compile(r"\.(tar(\.(gz|xz|bz2|zst))?|tgz|txz|wsl)$", re.IGNORECASE),
}
_LOOKS: Mapping[Kind, str] = {
    "disk": "ends like a disk",
    "rootfs": "ends like a rootfs",
    "oci": "is an image in a registry",
}


def urls(path: Path, value: object, folder: Folder) -> Iterator[tuple[Path, str]]:
    """Yield the urls of a value that is one or a list of them, each with its path; files are below `folder`."""
    for where, url in ((path, value),) if isinstance(value, str) else strings(path, value):
        yield where, resolved(url, folder)


def resolved(url: str, folder: Folder) -> str:
    """Return `url`, one that begins with ./ or ../ as the file url that it is from `folder` (RFC 3986, section 5.2).

    Others without a scheme stay as they are: a misspelt url is no file.

    >>> from pathlib import Path
    >>> resolved("../disks/a.qcow2", Path("/home/me/project")), resolved("disks/a.qcow2", Path("/home/me/project"))
    ('file:///home/me/disks/a.qcow2', 'disks/a.qcow2')
    """
    return urljoin(f"{folder.absolute().as_uri()}/", url) if is_relative(url) else url


def is_relative(url: str) -> bool:
    """Say whether `url` is one from the folder of images.toml."""
    return url.startswith(("./", "../"))


def certain_kind(url: str) -> Kind | None:
    """Return the kind that the name of `url` leaves no doubt of."""
    if serves_by_digest(url):
        return "oci"
    match = _URL.fullmatch(url)
    return next((kind for kind, ending in _CERTAIN.items() if match and ending.search(match[2])), None)


def looks(url: str, kind: Kind) -> str:
    """Say why `url` is taken for `kind`, to come after its name."""
    return "is an image layout" if is_layout(url) else _LOOKS[kind]


def check_prefix(findings: Findings, path: Path, text: str, *, key: bool = False) -> None:
    """Hold `text` against what may stand in [mirrors]; with `key`, as the key of `path`."""
    if not _PREFIX.fullmatch(text):
        got = "" if key else f", got {quoted(text)}"
        findings.wrong(
            path, f"expected the beginning of http, https or file urls, up to and with a slash{got}", key=key
        )


def check_url(findings: Findings, path: Path, url: str, *, moving: bool | None) -> None:
    """Check one url; `moving` is whether its name may hold a ``*`` here, None where none ever may."""
    match = _URL.fullmatch(url)
    if not match:
        expected = (
            "https://, http://, file:/// or ./" if moving is None else "https://, http://, file:///, ./ or oci://"
        )
        if re.search(r"\s", url.strip()) and _URL.fullmatch(re.sub(r"\s", "%20", url)):
            findings.wrong(path, f"a url has no spaces; write %20 for each, got {quoted(url)}")
        else:
            findings.wrong(path, f"expected a url that begins with {expected}, got {quoted(url)}")
        return
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        findings.wrong(path, f"{quoted(url)} is not a url: {error}")
        return
    folder, name, query = match.groups(default="")
    if not name and is_layout(url) and moving is not None:
        if "*" in folder:
            findings.wrong(path, f"* may stand in the file name of an image only, got {quoted(url)}")
    elif not name:
        findings.wrong(path, f"expected the url of a file, got {quoted(url)}, a folder's")
    elif "*" in folder + query or ("*" in name and moving is None):
        findings.wrong(path, f"* may stand in the file name of an image only, got {quoted(url)}")
    elif "*" in name and not moving:
        needed = "checksums, the list that says what it stands for, and no digest"
        findings.wrong(path, f"* in {quoted(name)} needs {needed}")
