from __future__ import annotations

from pathlib import Path

import pytest

from recipes.declare.findings import Findings
from recipes.declare.urls import certain_kind, check_prefix, check_url, is_relative, looks, resolved, urls

HERE = Path("/home/me/project")


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("./a.img", "file:///home/me/project/a.img"),
        ("../a.img", "file:///home/me/a.img"),
        ("./a b.img", "file:///home/me/project/a b.img"),
        ("a.img", "a.img"),
        ("/a.img", "/a.img"),
        (".hidden", ".hidden"),
        ("https://h.example/a.img", "https://h.example/a.img"),
    ],
)
def test_urls_from_the_folder(url: str, whole: str) -> None:
    assert resolved(url, HERE) == whole
    assert is_relative(url) is (whole != url)


def test_one_or_several() -> None:
    assert list(urls(("url",), "./a", HERE)) == [(("url",), "file:///home/me/project/a")]
    assert list(urls(("url",), ["x", 5, "./a"], HERE)) == [(("url", 0), "x"), (("url", 2), "file:///home/me/project/a")]
    assert list(urls(("url",), None, HERE)) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.img", "disk"),
        ("a.QCOW2", "disk"),
        ("a.raw.xz", "disk"),
        ("a.vhd", "disk"),
        ("a.vhdx.gz", "disk"),
        ("a.tar", "rootfs"),
        ("a.tar.zst", "rootfs"),
        ("a.tgz", "rootfs"),
        ("a.wsl", "rootfs"),
        ("a.gz", None),
        ("a", None),
        ("a.img.txt", None),
        ("a.img?sig=a.tar", "disk"),
        ("", None),
    ],
)
def test_what_a_name_leaves_no_doubt_of(name: str, kind: str | None) -> None:
    assert certain_kind(f"https://h.example/b.tar/{name}") == kind


def test_what_is_served_by_digest_is_an_image() -> None:
    assert certain_kind("oci://h.example/a:1") == "oci"
    assert certain_kind("file:///srv/layout/") == "oci"
    assert looks("oci://h.example/a:1", "oci") == "is an image in a registry"
    assert looks("file:///srv/layout/", "oci") == "is an image layout"
    assert looks("https://h.example/a.tar", "rootfs") == "ends like a rootfs"


def wrong(url: str, *, moving: bool | None = False) -> str:
    """Return what is said of `url`, nothing where it is right."""
    findings = Findings()
    check_url(findings, ("url",), url, moving=moving)
    assert len(findings.problems) < 2
    return findings.problems[0].message if findings.problems else ""


@pytest.mark.parametrize(
    "url",
    [
        "https://h.example/a.img",
        "http://h.example:8080/x/a.img?token=1",
        "file:///srv/a.img",
        "file://localhost/srv/a.img",
        "file:///srv/layout/",
    ],
)
def test_urls_that_are_right(url: str) -> None:
    assert wrong(url) == ""


@pytest.mark.parametrize(
    ("url", "moving", "said"),
    [
        ("ftp://h.example/a", False, "expected a url that begins with https://, http://, file:///, ./ or oci://"),
        ("ftp://h.example/a", None, "expected a url that begins with https://, http://, file:/// or ./,"),
        ("https:/h.example/a", False, "expected a url that begins"),
        ("https://h.example", False, "expected a url that begins"),
        ("https://h.example/a#b", False, "expected a url that begins"),
        ("https://h.example/a b", False, "a url has no spaces; write %20 for each"),
        ("https://h.example:port/a", False, "is not a url"),
        ("https://h.example:99999/a", False, "is not a url"),
        ("https://h.example/folder/", False, "a folder's"),
        ("https://h.example/*/a.img", True, "* may stand in the file name of an image only"),
        ("https://h.example/a?x=*", True, "* may stand in the file name of an image only"),
        ("https://h.example/SUMS*", None, "* may stand in the file name of an image only"),
        ("https://h.example/a-*.img", False, '* in "a-*.img" needs checksums'),
        ("file:///srv/*/layout/", True, "* may stand in the file name of an image only"),
        ("file:///srv/layout/", None, "a folder's"),
    ],
)
def test_urls_that_are_not(url: str, moving: bool | None, said: str) -> None:
    assert said in wrong(url, moving=moving)


def test_a_name_that_moves() -> None:
    assert wrong("https://h.example/a-*.img", moving=True) == ""


@pytest.mark.parametrize(
    ("prefix", "right"),
    [
        ("https://h.example/", True),
        ("https://h.example/a/b/", True),
        ("oci://h.example/", True),
        ("file:///srv/", True),
        ("https://h.example", False),
        ("https://h.example/a", False),
        ("https://h.example/?x=/", False),
        ("/srv/", False),
        ("https://h.example/*/", False),
    ],
)
def test_prefixes_of_mirrors(prefix: str, right: bool) -> None:
    findings = Findings()
    check_prefix(findings, ("mirrors", prefix), prefix, key=True)
    assert (not findings.problems) is right
    check_prefix(findings, ("mirrors", "x", 0), prefix)
    if not right:
        assert [problem.key for problem in findings.problems] == [True, False]
        assert findings.problems[1].message.endswith(f', got "{prefix}"')
