"""`larder update` through the real `doit` program: what it pins, and that it touches nothing else."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.oracles import need
from tests.kit.project import Project, disk, sha256
from tests.kit.servers import Exchange, misbehaving
from tests.kit.signer import home

if TYPE_CHECKING:
    from collections.abc import Callable


class Upstream:
    """Images and their list, as files."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.images: dict[str, bytes] = {}
        self.url = project.upstream.as_uri()

    def image(self, name: str, seed: str | None = None) -> str:
        """Release an image; return its digest."""
        data = gzip.compress(disk(seed or name), compresslevel=1, mtime=0)
        (self.project.upstream / name).parent.mkdir(exist_ok=True)
        self.images[name] = data
        self.project.serve(name, data)
        self.sums()
        return sha256(data)

    def sums(self, algorithm: str = "sha256") -> str:
        lines = (f"{hashlib.new(algorithm, data).hexdigest()}  {name}\n" for name, data in self.images.items())
        return self.project.serve("SUMS", "".join(lines).encode())

    def size(self, name: str) -> int:
        return len(self.images[name])


@pytest.fixture
def upstream(project: Project) -> Upstream:
    return Upstream(project)


@pytest.fixture
def declare(project: Project) -> Callable[[str], None]:
    def write(text: str) -> None:
        (project.folder / "images.toml").write_bytes(text.encode())

    return write


def declared(project: Project) -> str:
    return (project.folder / "images.toml").read_bytes().decode()


def test_a_pin_is_brought_up_to_date(project: Project, upstream: Upstream, declare: Callable[[str], None]) -> None:
    old, size = upstream.image("a.raw.gz", "old"), upstream.size("a.raw.gz")
    text = (
        "# Our images.\n\n[images.a]   # the only one\n  title='A'\n"
        f"[images.a.x86_64]\nurl = '{upstream.url}/a.raw.gz'\n"
        f'digest="{old}" # pinned\nsize = {size:_}\n\n'
        f"checksums = '{upstream.url}/SUMS'\n# end"
    )
    declare(text)
    assert project.doit("update", "--check").status == 0
    assert project.ok("update") == ""
    assert declared(project) == text

    new = upstream.image("a.raw.gz", "new and longer")
    checked = project.doit("update", "--check")
    assert checked.status == 1
    assert declared(project) == text
    assert f'\n-digest="{old}" # pinned\n-size = {size:_}\n+digest="{new}" # pinned\n' in checked.out
    assert project.ok("update", "a") == checked.out
    changed = text.replace(old, new).replace(f"{size:_}", str(upstream.size("a.raw.gz")))
    assert declared(project) == changed
    assert project.doit("update", "--check").status == 0
    project.ok("raw:a")
    assert (project.entry("a") / "disk.raw").read_bytes() == disk("new and longer")


SPELLINGS = {
    "basic": 'url = "{u}/old/a.raw.gz"\ndigest = "{d}"\nsize = {s}\nchecksums = "{u}/SUMS"\npattern = "*/a.raw.gz"\n',
    "literal": "url = '{u}/old/a.raw.gz'\ndigest = '{d}'\nsize = {s}\nchecksums = '{u}/SUMS'\npattern = '*/a.raw.gz'\n",
    "multi-line": (
        'url = """\\\n  {u}/old/a.raw.gz"""\ndigest = \'\'\'{d}\'\'\'\nsize = {s}\nchecksums = "{u}/SUMS"\n'
        'pattern = "*/a.raw.gz"\n'
    ),
    "escaped": (
        'url = "{u}/old/\\u0061.raw.gz"\n"digest" = "{d}"\nsize = {s}\nchecksums = "{u}/SUMS"\npattern = "*/a.raw.gz"\n'
    ),
}


def written(form: str, name: str, source: str) -> str:
    """Write the image `name` in one of the ways that TOML has for tables."""
    match form:
        case "inline":
            pairs = source.rstrip("\n").replace("\\\n  ", "").replace('"""', '"').replace("'''", "'").split("\n")
            return f"images.{name}.x86_64 = {{ {', '.join(pairs)} }} # size\n"
        case "dotted":
            lines = source.splitlines(keepends=True)
            return "".join(f"images.{name}.x86_64.{line}" if " = " in line else line for line in lines)
        case _:
            return f"[images.{name}.x86_64]\n# Größe\n{source}\n"


@pytest.mark.parametrize("form", ["tables", "inline", "dotted", "windows"])
def test_any_way_of_writing_it(project: Project, upstream: Upstream, declare: Callable[[str], None], form: str) -> None:
    old, size = upstream.image("old/a.raw.gz", "old"), upstream.size("old/a.raw.gz")
    text = "".join(
        written(form, name, source.format(u=upstream.url, d=old, s=size)) for name, source in SPELLINGS.items()
    )
    if form == "windows":
        text = "\ufeff" + text.replace("\n", "\r\n")
    declare(text)
    project.ok("update", "--check")
    new = upstream.image("zz-new/a.raw.gz", "new and longer")
    project.ok("update")
    after = declared(project)
    assert after.count(f"{upstream.url}/zz-new/a.raw.gz") == after.count(new) == len(SPELLINGS)
    assert old not in after
    assert after.count("\r\n") == (after.count("\n") if form == "windows" else 0)
    assert [after.count(each) for each in ("\ufeff", "Größe", "# size")] == [
        text.count(each) for each in ("\ufeff", "Größe", "# size")
    ]
    project.ok("update", "--check")
    project.ok("raw")


def test_both_architectures_and_several_urls(
    project: Project, upstream: Upstream, declare: Callable[[str], None]
) -> None:
    old = {arch: upstream.image(f"v1.9/a-{arch}.raw.gz") for arch in ("amd64", "arm64")}
    declare(
        "".join(
            f'[images.a.{arch}]\nurl = [\n  "https://mirror.example/x/v1.9/a-{name}.raw.gz", # far\n'
            f"  '{upstream.url}/v1.9/a-{name}.raw.gz',\n]\n"
            f'digest = "{old[name]}"\nchecksums = "{upstream.url}/SUMS"\npattern = "v*/a-{name}.raw.gz"\n'
            for arch, name in (("x86_64", "amd64"), ("aarch64", "arm64"))
        )
        + '[mirrors]\n"https://mirror.example/x/" = ["'
        + upstream.url
        + '/"]\n'
    )
    project.ok("update", "--check")
    before = declared(project)
    new = {arch: upstream.image(f"v1.10/a-{arch}.raw.gz") for arch in ("amd64", "arm64")}
    project.ok("update", "a")
    expected = before.replace("/v1.9/", "/v1.10/")
    for arch in old:
        expected = expected.replace(old[arch], new[arch])
    assert declared(project) == expected


def test_the_diff_is_one_that_patch_applies(
    project: Project, upstream: Upstream, declare: Callable[[str], None]
) -> None:
    need("patch")
    old = upstream.image("a.raw.gz", "old")
    text = "".join(
        f'[images.{name}.x86_64]\n#\n#\n#\nurl = "{upstream.url}/a.raw.gz"\nchecksums = "{upstream.url}/SUMS"\n'
        f'digest = "{old}"\n#\n'
        for name in "abc"
    ).rstrip("#\n")
    declare(text)
    upstream.image("a.raw.gz", "new")
    diff = project.doit("update", "--check").out
    copy = project.folder.parent / "copy"
    copy.mkdir()
    (copy / "images.toml").write_text(text)
    subprocess.run(["patch", "-p0"], cwd=copy, input=diff.encode(), check=True, capture_output=True)
    project.ok("update")
    assert (copy / "images.toml").read_text() == declared(project) != text


class TestNothingToDo:
    def test_is_said(self, project: Project, upstream: Upstream, declare: Callable[[str], None]) -> None:
        digest = upstream.image("a.raw.gz")
        url, sums = f"{upstream.url}/a.raw.gz", f"{upstream.url}/SUMS"
        declare(f'[images.a.x86_64]\nurl = "{url}"\ndigest = "{digest}"\nchecksums = "{sums}"\n')
        for words in ((), ("--check",), ("a",)):
            result = project.doit("update", *words)
            assert (result.status, result.out) == (0, "")
            assert result.err.endswith("nothing to update: 1 pin is what upstream serves\n")

    def test_of_what_is_not_followed(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit("update")
        assert (result.status, result.out) == (0, "")
        assert result.err.splitlines()[-1] == "nothing to update: none of them is pinned and followed"


class TestWhatIsNotTouched:
    def test_images_that_are_not_named(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None]
    ) -> None:
        old = upstream.image("a.raw.gz", "old")
        source = f'url = "{upstream.url}/a.raw.gz"\ndigest = "{old}"\nchecksums = "{upstream.url}/SUMS"\n'
        declare(f"[images.a.x86_64]\n{source}[images.b.x86_64]\n{source}")
        new = upstream.image("a.raw.gz", "new")
        project.ok("update", "b")
        assert declared(project) == f"[images.a.x86_64]\n{source}[images.b.x86_64]\n{source.replace(old, new)}"

    def test_floating_images_and_those_without_a_list(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None]
    ) -> None:
        digest = upstream.image("a.raw.gz")
        text = (
            f'[images.floating.x86_64]\nurl = "{upstream.url}/a.raw.gz"\nchecksums = "{upstream.url}/SUMS"\n'
            f'[images.fixed.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\n'
        )
        declare(text)
        upstream.image("a.raw.gz", "new")
        result = project.doit("update", "--check")
        assert (result.status, result.out) == (0, "")
        assert "floating (x86_64): skipped, it is not pinned and follows its list already" in result.err
        assert "fixed (x86_64): skipped, no `checksums` are declared to follow" in result.err
        assert declared(project) == text

    def test_a_url_that_serves_the_same_bytes(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None]
    ) -> None:
        digest = upstream.image("v1/a.raw.gz", "same")
        text = (
            f'[images.a.x86_64]\nurl = "{upstream.url}/v1/a.raw.gz"\ndigest = "{digest}"\n'
            f'checksums = "{upstream.url}/SUMS"\npattern = "*/a.raw.gz"\n'
        )
        declare(text)
        upstream.image("v2/a.raw.gz", "same")
        project.ok("update", "--check")

    def test_the_link_and_the_mode_of_the_file(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None]
    ) -> None:
        digest = upstream.image("a.raw.gz", "old")
        declare(
            f'[images.a.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\n'
            f'checksums = "{upstream.url}/SUMS"\n'
        )
        link = project.folder / "images.toml"
        target = project.folder.parent / "shared.toml"
        link.rename(target)
        target.chmod(0o640)
        link.symlink_to(target)
        new = upstream.image("a.raw.gz", "new")
        project.ok("update")
        assert link.is_symlink()
        assert new in target.read_text()
        assert target.stat().st_mode & 0o777 == 0o640
        assert not list(project.folder.parent.glob(".*"))

    def test_a_file_that_is_being_edited(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None]
    ) -> None:
        digest = upstream.image("a.raw.gz", "old")
        declare(
            f'[images.a.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\n'
            f'checksums = "{upstream.url}/SUMS"\n'
        )
        upstream.image("a.raw.gz", "new")
        file = project.folder / "images.toml"
        project.hook(
            "import pathlib, shutil\n"
            "copymode = shutil.copymode\n"
            "def edit(source, destination):\n"
            f"    pathlib.Path({str(file)!r}).write_text('# somebody else\\n')\n"
            "    copymode(source, destination)\n"
            "shutil.copymode = edit\n"
        )
        result = project.doit("update")
        assert result.status == 1
        assert "images.toml was changed meanwhile" in result.err
        assert declared(project) == "# somebody else\n"
        assert {path.name for path in project.folder.iterdir()} - {"__pycache__"} == {"images.toml", "dodo.py"}


class TestDigests:
    @pytest.mark.parametrize(
        ("pin", "listed", "kept"),
        [
            ("sha256", ["sha512", "sha256"], "sha256"),
            ("sha512", ["sha256", "sha512"], "sha512"),
            ("sha512", ["sha256"], "sha256"),
            ("sha256", ["sha512"], "sha512"),
        ],
    )
    def test_the_algorithm_of_the_pin_is_kept_where_the_list_has_it(
        self,
        project: Project,
        upstream: Upstream,
        declare: Callable[[str], None],
        pin: str,
        listed: list[str],
        kept: str,
    ) -> None:
        upstream.image("a.raw.gz", "old")
        digest = hashlib.new(pin, upstream.images["a.raw.gz"]).hexdigest()
        declare(
            f'[images.a.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{pin}:{digest}"\n'
            f'checksums = "{upstream.url}/SUMS"\n'
        )
        upstream.image("a.raw.gz", "new")
        data = upstream.images["a.raw.gz"]
        lines = (f"{each.upper()} (a.raw.gz) = {hashlib.new(each, data).hexdigest()}\n" for each in listed)
        project.serve("SUMS", "".join(lines).encode())
        project.ok("update")
        assert f'digest = "{kept}:{hashlib.new(kept, data).hexdigest()}"' in declared(project)
        project.ok("update", "--check")

    def test_weak_ones_never_do(self, project: Project, upstream: Upstream, declare: Callable[[str], None]) -> None:
        digest = upstream.image("a.raw.gz")
        text = (
            f'[images.a.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\n'
            f'checksums = "{upstream.url}/SUMS"\n'
        )
        declare(text)
        upstream.sums("sha1")
        result = project.doit("update")
        assert result.status == 1
        assert "a (x86_64): a.raw.gz is listed with sha1 only; expected sha512 or sha256" in result.err
        assert declared(project) == text


class TestSizes:
    @pytest.fixture
    def text(self, upstream: Upstream) -> str:
        digest = upstream.image("a.raw.gz", "old")
        return (
            f'[images.a.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\n'
            f'size = {upstream.size("a.raw.gz")} # bytes\nchecksums = "{upstream.url}/SUMS"\n'
        )

    def test_a_list_tells(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None], text: str
    ) -> None:
        declare(text)
        upstream.image("a.raw.gz", "new")
        data = upstream.images.pop("a.raw.gz")
        project.serve("SUMS", f"# a.raw.gz: {len(data)} bytes\nSHA256 (a.raw.gz) = {sha256(data)[7:]}\n".encode())
        # So the image is not even looked at.
        (project.upstream / "a.raw.gz").unlink()
        project.ok("update")
        assert f"\nsize = {len(data)} # bytes\n" in declared(project)

    def test_one_that_was_wrong_is_put_right(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None], text: str
    ) -> None:
        declare(text.replace("\nsize = ", "\nsize = 9"))
        data = upstream.images["a.raw.gz"]
        project.serve("SUMS", f"# a.raw.gz: {len(data)} bytes\nSHA256 (a.raw.gz) = {sha256(data)[7:]}\n".encode())
        project.ok("update")
        assert declared(project) == text

    def test_one_that_nothing_tells_is_removed(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None], text: str
    ) -> None:
        def behave(exchange: Exchange) -> None:
            if exchange.path == "/SUMS":
                exchange.file((project.upstream / "SUMS").read_bytes())
            else:
                exchange.start(200, {"Transfer-Encoding": "chunked"})
                exchange.chunk(b"x")
                exchange.chunk(b"")

        with misbehaving(behave) as server:
            declare(text.replace(upstream.url, server.url))
            digest = upstream.image("a.raw.gz", "new")
            project.ok("update")
            assert declared(project) == (
                f'[images.a.x86_64]\nurl = "{server.url}/a.raw.gz"\ndigest = "{digest}"\n'
                f'checksums = "{server.url}/SUMS"\n'
            )

    def test_none_is_added(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None], text: str
    ) -> None:
        declare("".join(line for line in text.splitlines(keepends=True) if not line.startswith("size")))
        upstream.image("a.raw.gz", "new")
        project.ok("update")
        assert "size" not in declared(project)


def test_json_for_scripts(project: Project, upstream: Upstream, declare: Callable[[str], None]) -> None:
    old = upstream.image("a.raw.gz", "old")
    text = (
        f"[images.a.x86_64]\nurl = '{upstream.url}/a.raw.gz'\ndigest = '{old}'\nchecksums = '{upstream.url}/SUMS'\n"
        f"[images.b.x86_64]\nurl = '{upstream.url}/b.img'\ndigest = 'sha256:{'0' * 64}'\n"
        f"[images.c.x86_64]\nurl = '{upstream.url}/c.img'\ndigest = 'sha256:{'0' * 64}'\n"
        f"checksums = '{upstream.url}/SUMS'\n"
    )
    declare(text)
    new = upstream.image("a.raw.gz", "new and longer")
    checked = project.doit("update", "--check", "--json")
    assert checked.status == 1
    facts = json.loads(checked.out)
    (pin,) = facts["updated"]
    assert (pin["image"], pin["arch"], pin["from"]["digest"], pin["to"]["digest"]) == ("a", "x86_64", old, new)
    assert [(each["image"], "checksums" in each["why"]) for each in facts["skipped"]] == [("b", True)]
    assert [(each["image"], "c.img" in each["why"]) for each in facts["failed"]] == [("c", True)]
    assert f"+digest = '{new}'" in facts["diff"]
    assert not facts["written"]
    assert declared(project) == text
    assert json.loads(project.doit("update", "--json", "a").out) == {
        **facts,
        "skipped": [],
        "failed": [],
        "written": True,
    }
    assert new in declared(project)
    again = json.loads(project.ok("update", "--json", "a"))
    assert (again["updated"], again["diff"], again["written"]) == ([], "", False)


class TestFailures:
    @pytest.fixture
    def text(self, upstream: Upstream) -> str:
        """Two images, of which the first has a list of its own."""
        digest = upstream.image("a.raw.gz", "old")
        source = f'url = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\nchecksums = "{upstream.url}/'
        return f'[images.bad.x86_64]\n{source}BAD"\n[images.good.x86_64]\n{source}SUMS"\n'

    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            (None, "no such file"),
            (b"<!doctype html><html>", "HTML"),
            (b"{", "JSON"),
            (b"0" * 64 + b"  other.raw.gz", "the list does not name a.raw.gz"),
        ],
    )
    def test_others_go_on(
        self,
        project: Project,
        upstream: Upstream,
        declare: Callable[[str], None],
        text: str,
        bad: bytes | None,
        said: str,
    ) -> None:
        declare(text)
        # A copy from better days does not count.
        project.serve("BAD", (project.upstream / "SUMS").read_bytes())
        project.ok("update")
        if bad is None:
            (project.upstream / "BAD").unlink()
        else:
            project.serve("BAD", bad)
        old = sha256(upstream.images["a.raw.gz"])
        new = upstream.image("a.raw.gz", "new")
        result = project.doit("update")
        assert result.status == 1
        assert "bad (x86_64): " in result.err
        assert said.lower() in result.err.lower()
        first, mark, second = text.partition("[images.good")
        assert declared(project) == first + mark + second.replace(old, new)
        assert project.doit("update", "--check").status == 1
        project.ok("update", "--check", "good")

    def test_a_url_that_moved_and_is_not_there(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None]
    ) -> None:
        digest = upstream.image("v1/a.raw.gz")
        text = (
            f'[images.a.x86_64]\nurl = "{upstream.url}/v1/a.raw.gz"\ndigest = "{digest}"\n'
            f'checksums = "{upstream.url}/SUMS"\npattern = "v*/a.raw.gz"\n'
        )
        declare(text)
        upstream.image("v2/a.raw.gz")
        (project.upstream / "v2" / "a.raw.gz").unlink()
        result = project.doit("update")
        assert result.status == 1
        assert f"a (x86_64): the new image: {upstream.url}/v2/a.raw.gz: no such file" in result.err
        assert declared(project) == text

    def test_a_url_that_nobody_could_declare(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None]
    ) -> None:
        digest = upstream.image("a.raw.gz")
        text = (
            f'[images.a.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\n'
            f'checksums = "{upstream.url}/list.json"\n'
        )
        declare(text)
        with misbehaving(lambda exchange: exchange.reply(200, b"x")) as server:
            location = f"{server.url}/x *#y/a.raw.gz"
            project.serve("list.json", json.dumps({"location": location, "sha256": "0" * 64}).encode())
            result = project.doit("update")
        assert result.status == 1
        assert "Traceback" not in result.err
        assert declared(project) == text

    def test_a_signature_that_does_not_hold(
        self, project: Project, upstream: Upstream, declare: Callable[[str], None]
    ) -> None:
        need("gpg", "gpgconf")
        digest = upstream.image("a.raw.gz", "old")
        text = (
            f'[images.a.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\n'
            f'checksums = "{upstream.url}/SUMS"\nsignature = "{upstream.url}/SUMS.gpg"\nkeyring = "key.asc"\n'
        )
        with home() as signer:
            signer.make("upstream")
            (project.folder / "key.asc").write_bytes(signer.export("upstream"))
            new = upstream.image("a.raw.gz", "new")
            signature = signer.sign("upstream", data=(project.upstream / "SUMS").read_bytes())
        declare(text)
        project.serve("SUMS.gpg", signature[:-1] + bytes([signature[-1] ^ 1]))
        result = project.doit("update")
        assert result.status == 1
        assert "the text or the signature was altered" in result.err
        assert declared(project) == text
        project.serve("SUMS.gpg", signature)
        project.ok("update")
        assert declared(project) == text.replace(digest, new)

    def test_offline(self, project: Project, upstream: Upstream, declare: Callable[[str], None]) -> None:
        declare(
            f'[images.a.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{upstream.image("a.raw.gz")}"\n'
            f'checksums = "{upstream.url}/SUMS"\n'
        )
        result = project.doit("update", LARDER_OFFLINE="1")
        assert result.status == 3
        assert "`larder update` asks upstream, and LARDER_OFFLINE is set" in result.err

    def test_an_unknown_image(self, project: Project) -> None:
        project.declare("a", disk("a"))
        result = project.doit("update", "b")
        assert result.status == 3
        assert "images.toml declares no image 'b'" in result.err


def test_status_tells_what_was_found_outdated(
    project: Project, upstream: Upstream, declare: Callable[[str], None]
) -> None:
    digest = upstream.image("a.raw.gz", "old")
    declare(
        "".join(
            f'[images.{name}.x86_64]\nurl = "{upstream.url}/a.raw.gz"\ndigest = "{digest}"\n{more}\n'
            for name, more in (("a", f'checksums = "{upstream.url}/SUMS"'), ("fixed", ""))
        )
    )
    project.ok("raw")
    upstream.image("a.raw.gz", "new")
    # Nobody asked upstream yet.
    assert "newer" not in project.ok("status")
    project.doit("update", "--check")
    (project.upstream / "SUMS").unlink()
    rows = json.loads(project.ok("status", "--json"))["artifacts"]
    assert {row["image"]: (row["state"], row["outdated"]) for row in rows} == {
        "a": ("current", True),
        "fixed": ("current", False),
    }
    assert "upstream has newer than is pinned, `larder update` re-pins: a\n" in project.ok("status")


def test_a_list_is_asked_for_once(project: Project, upstream: Upstream, declare: Callable[[str], None]) -> None:
    digest = upstream.image("a.raw.gz")

    def behave(exchange: Exchange) -> None:
        exchange.file((project.upstream / Path(exchange.path).name).read_bytes())

    with misbehaving(behave) as server:
        declare(
            "".join(
                f'[images.{name}.{arch}]\nurl = "{server.url}/a.raw.gz"\ndigest = "{digest}"\n'
                f'checksums = "{server.url}/SUMS"\n'
                for name in "abc"
                for arch in ("x86_64", "aarch64")
            )
        )
        project.ok("update", "--check")
        assert [seen.path for seen in server.seen] == ["/SUMS"]


def test_a_url_from_the_folder_stays_one(project: Project, declare: Callable[[str], None]) -> None:
    folder = project.folder / "disks"
    folder.mkdir()
    for name in ("a-1.img", "a-2.img"):
        (folder / name).write_bytes(disk(name))
    lines = (f"{hashlib.sha256(disk(name)).hexdigest()}  {name}\n" for name in ("a-1.img", "a-2.img"))
    (folder / "SHA256SUMS").write_text("".join(lines))
    declare(
        '[images.a.x86_64]\nurl = "./disks/a-1.img"\nchecksums = "./disks/SHA256SUMS"\n'
        f'pattern = "a-*.img"\ndigest = "{sha256(disk("a-1.img"))}"\n'
    )
    project.ok("update")
    text = (project.folder / "images.toml").read_text()
    assert 'url = "./disks/a-2.img"\n' in text
    assert sha256(disk("a-2.img")) in text
    project.ok("raw:a")
