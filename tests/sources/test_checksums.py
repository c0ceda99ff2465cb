"""Checksum lists in every style that upstreams publish; the samples under lists/ have their layout."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.errors import ChecksumError, FetchError
from recipes.model import Digest
from recipes.sources.checksums import MAX_LENGTH, MAX_PATH, Listed, decode, parse
from tests.kit.oracles import need

LISTS = Path(__file__).parent / "lists"

A, B, C = "a1" * 32, "b2" * 32, "c3" * 32
LONG = "d4" * 64

ROCKY = "Rocky-9-GenericCloud-Base-9.8-20260525.0.x86_64.qcow2"
ROCKY_DIGEST = "sha256:92c206cc6f790c61583247eefe87890f8828420662c17cacf247cec78ab4eec8"
NOBLE = "ubuntu-24.04-server-cloudimg-amd64.img"
NOBLE_DIGEST = "sha256:ffe6203da54deeb6db5d2a98a83f9ec8e55f149d3f7ba622e1abe5fa966ee3d6"
TRIXIE = "debian-13-genericcloud-amd64-20260712-2537.qcow2"
TRIXIE_DIGEST = (
    "sha512:7ae53e9dbee282bfc16f289dec483dde3a8598769c38a267948310f7a2a52c66"
    "2620198603bc52c142627efba379863d16079698a10b34102d55bcedd40e8d32"
)
FCOS = "https://builds.coreos.fedoraproject.org/prod/streams/stable/builds/44.20260707.3.1/"


def found(text: str, name: str, algorithm: str | None = None) -> str:
    return str(parse(text).lookup(name, algorithm=algorithm).digest)


@pytest.mark.parametrize(
    ("sample", "name", "digest", "size"),
    [
        ("ubuntu-SHA256SUMS", NOBLE, NOBLE_DIGEST, None),
        ("debian-SHA512SUMS", TRIXIE, TRIXIE_DIGEST, None),
        ("debian-sidecar.json", TRIXIE, TRIXIE_DIGEST, None),
        (
            "fedora-CHECKSUM",
            "Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2",
            "sha256:28680fe5b371a5a82ebf43a31926e086a168e59949d03969c5093e7071f90b7f",
            583008256,
        ),
        ("rocky-CHECKSUM", ROCKY, ROCKY_DIGEST, 645988352),
        ("rocky-CHECKSUM", "Rocky-9-GenericCloud.latest.x86_64.qcow2", ROCKY_DIGEST, 645988352),
        ("centos-stream-SHA256SUM", "CentOS-Stream-GenericCloud-10-*.x86_64.qcow2", None, 1033895936),
        (
            "almalinux-CHECKSUM",
            "AlmaLinux-10-GenericCloud-latest.x86_64.qcow2",
            "sha256:47f2218668dd4776be140dd92fa3bea700be1766e2c7d88bdfd6a4b50f477b4d",
            None,
        ),
        (
            "alpine.sha512",
            "nocloud_alpine-3.23.4-x86_64-uefi-cloudinit-r0.qcow2",
            "sha512:849196e26640b33fb1f106d46cebdf341c715f7f49363564eacece8097464b6a"
            "f7041618e94c4eb1a006394663252a86c0fb3158fee5d0ffb094899730679a71",
            None,
        ),
        (
            "opensuse.sha256",
            "Leap-16.0-Minimal-VM.x86_64-Cloud.qcow2",
            "sha256:5b1d7d2e1a0f8d3c6c0f5b4a8e3b7e9f2f6d4c1b0a9e8d7c6b5a4f3e2d1c0b9a",
            None,
        ),
        (
            "freebsd-CHECKSUM.SHA256",
            "FreeBSD-15.1-RELEASE-amd64-BASIC-CLOUDINIT-zfs.raw.xz",
            "sha256:93011721f334015ce203d43c4d204e7cddc73dc6e3e757532fe67b740dc916b4",
            None,
        ),
        (
            "oracle-template.json",
            "OL10U1_x86_64-kvm-b291.qcow2",
            "sha256:8e59326c4bf7cfa58a6cac404db8ed583fe3a5f4c460e2b73c64988785bb4f0f",
            None,
        ),
        (
            "arch-gitlab-packages.json",
            "Arch-Linux-x86_64-cloudimg-*.qcow2",
            "sha256:f419d4e29aebfc017ad4c9de330a3be0d7eefba710b269108b116aaca1122926",
            551419904,
        ),
        ("ubuntu-simplestreams.json", f"release-20260705/{NOBLE}", NOBLE_DIGEST, None),
    ],
)
def test_every_upstream(sample: str, name: str, digest: str | None, size: int | None) -> None:
    listed = parse((LISTS / sample).read_text()).lookup(name)
    if digest is not None:
        assert str(listed.digest) == digest
    if size is not None:
        assert listed.size == size


def test_fedora_coreos_gives_both_digests_and_the_url() -> None:
    name = "fedora-coreos-44.20260707.3.1-qemu.x86_64.qcow2.xz"
    assert parse((LISTS / "fcos-stable.json").read_text()).lookup("fedora-coreos-*-qemu.x86_64.qcow2.xz") == Listed(
        name,
        Digest("sha256", "35eb8e1f601b2b65545402df54b2dbb2a48e75f1d4483de5dc575d020ddefa1e"),
        content=Digest("sha256", "231a74024e12e5a9b2e7fa64ec948d51986b70f3735cdf68fadcaba095ceb18d"),
        url=f"{FCOS}x86_64/{name}",
    )


def test_wsl_digests_may_begin_with_0x() -> None:
    listed = parse((LISTS / "wsl-DistributionInfo.json").read_text()).lookup("openSUSE-Leap-16.0-*.wsl")
    assert str(listed.digest) == "sha256:0d1faa095153beee0a9b5089b0f9aa3d2aec95e2cdcffdeeff84dd54c48b8393"
    assert listed.url is not None
    assert listed.url.endswith(listed.name)


def test_escaped_urls() -> None:
    text = json.dumps({"url": "https://example.org/a%2Bb.img", "sha256": A})
    assert parse(text).lookup("a+b.img").url == "https://example.org/a%2Bb.img"


def test_a_location_that_is_no_url_is_passed_over() -> None:
    text = json.dumps([{"url": "https://[example.org/a.img", "sha256": A}, {"url": "b.img", "sha256": A}])
    listed = parse(text)
    assert str(listed.lookup("b.img").digest) == f"sha256:{A}"
    with pytest.raises(ChecksumError):
        listed.lookup("a.img")


def test_simplestreams_newest_version_by_pattern() -> None:
    streams = parse((LISTS / "ubuntu-simplestreams.json").read_text())
    listed = streams.lookup(f"release-*/{NOBLE}")
    assert (listed.name, str(listed.digest)) == (f"release-20260705/{NOBLE}", NOBLE_DIGEST)
    assert listed.size == 624296448 + 20260705 % 7
    with pytest.raises(ChecksumError, match=r"(?s)listed twice.*release-20260518.*hint: .*FOLDER/NAME"):
        streams.lookup(NOBLE)


# Real tools ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["sha256sum"],
        ["sha256sum", "--binary"],
        ["sha256sum", "--tag"],
        ["sha512sum", "--tag"],
        ["shasum", "-a", "256"],
        ["shasum", "-a", "256", "--tag"],
        ["openssl", "dgst", "-sha256"],
    ],
    ids=" ".join,
)
def test_what_the_tools_write(command: list[str], tmp_path: Path) -> None:
    need(command[0])
    names = ["disk.qcow2", "a name with  blanks (and) brackets = x.img"]
    if command[0] != "openssl":  # it escapes nothing
        names += ["new\nline.img", "back\\slash.img", "both\\n\n.img"]
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"content {number}")
    text = subprocess.run([*command, *names], cwd=tmp_path, capture_output=True, check=True, text=True).stdout
    listed = parse(text)
    for name in names:
        digest = listed.lookup(name).digest
        assert digest.hex == hashlib.new(digest.algorithm, (tmp_path / name).read_bytes()).hexdigest()


# Names --------------------------------------------------------------------------------------------------------------


def test_only_the_exact_base_name_matches() -> None:
    text = f"{A}  disk.img.manifest\n{B}  ./disk.img\n{C}  xdisk.img\n{C}  diskximg\n"
    assert found(text, "disk.img") == f"sha256:{B}"


def test_a_folder_can_be_asked_for() -> None:
    text = f"{A}  amd64/disk.img\n{B}  arm64/disk.img\n"
    assert found(text, "arm64/disk.img") == f"sha256:{B}"
    with pytest.raises(ChecksumError, match=f"{A}.*amd64/disk.img.*{B}.*arm64/disk.img"):
        parse(text).lookup("disk.img")
    with pytest.raises(ChecksumError, match=r"does not name riscv64/disk\.img"):
        parse(text).lookup("riscv64/disk.img")


def test_more_of_the_path_than_the_list_has() -> None:
    assert found(f"{A}  disk.img\n", "images/disk.img") == f"sha256:{A}"
    with pytest.raises(ChecksumError, match="does not name"):
        parse(f"{A}  disk.img\n").lookup("release-*/disk.img")


def test_natural_order_of_a_pattern() -> None:
    text = f"{A}  disk-9.9.img\n{B}  disk-9.10.img\n{C}  disk-9.10.img.sig\n{C}  disk-9.010-rc.txt\n"
    listed = parse(text).lookup("disk-*.img")
    assert (listed.name, listed.digest.hex) == ("disk-9.10.img", B)


def test_a_star_in_a_name_is_a_name_first() -> None:
    assert found(f"{A}  *.img\n{B}  z.img\n", "*.img") == f"sha256:{A}"


def test_other_wildcards_are_letters() -> None:
    text = f"{A}  disk-[12]?.img\n{B}  disk-1x.img\n"
    assert found(text, "disk-[12]?.*") == f"sha256:{A}"
    with pytest.raises(ChecksumError, match="does not name"):
        parse(text).lookup("disk-??.img*")


def test_missing_name_hints_at_near_ones() -> None:
    with pytest.raises(ChecksumError, match=rf"(?s)does not name .*\n  hint: .*{NOBLE}"):
        parse((LISTS / "ubuntu-SHA256SUMS").read_text()).lookup("ubuntu-24.04-server-cloudimg-amd65.img")


# Digests ------------------------------------------------------------------------------------------------------------


def test_the_strongest_wins_or_the_one_that_is_wanted() -> None:
    text = f"MD5 (x) = {'0' * 32}\nSHA512 (x) = {LONG}\nSHA256 (x) = {A}\n"
    assert found(text, "x") == f"sha512:{LONG}"
    assert found(text, "x", "sha256") == f"sha256:{A}"
    with pytest.raises(ChecksumError, match="listed with sha256 only; expected sha512"):
        parse(f"{A}  x\n").lookup("x", algorithm="sha512")
    with pytest.raises(ChecksumError, match="expected one of sha512, sha256 as the algorithm, got 'md5'"):
        parse(text).lookup("x", algorithm="md5")


@pytest.mark.parametrize("digits", ["0" * 32, "0" * 40])
def test_weak_digests_are_refused(digits: str) -> None:
    with pytest.raises(ChecksumError, match=r"(?s)listed with (md5|sha1) only.*too weak"):
        parse(f"{digits}  x\n").lookup("x")


def test_upper_case() -> None:
    assert found(f"{A.upper()} *x\n", "x") == f"sha256:{A}"


def test_duplicates() -> None:
    assert found(f"{A}  x\r\n{A.upper()} *./x\r\n", "x") == f"sha256:{A}"
    with pytest.raises(ChecksumError, match=f"x is listed twice.*{A}.*{B}"):
        parse(f"{A}  x\n{B}  x\n").lookup("x")


def test_a_digest_without_a_name_answers_for_any() -> None:
    assert found(A, "whatever.img") == f"sha256:{A}"
    with pytest.raises(ChecksumError, match="2 digests without names"):
        parse(f"{A}\n{B}\n").lookup("x")
    with pytest.raises(ChecksumError, match="without a name"):
        parse(A).lookup("disk-*.img")
    with pytest.raises(ChecksumError, match="does not name y"):
        parse(f"{A}\n{B}  x\n").lookup("y")


def test_sizes_in_comments() -> None:
    text = f"# made by hand\n# ./x: 12 bytes\n# y: many bytes\n{A}  x\n{B}  y\n"
    assert parse(text).lookup("x").size == 12
    assert parse(text).lookup("y").size is None


# Clear-signed -------------------------------------------------------------------------------------------------------

SIGNED = (
    f"{A}  outside\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{{}}\n"
    f"-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n{A}  inside\n{A}  outside\n"
)


def test_only_what_is_signed_counts() -> None:
    listed = parse(SIGNED.format(f"{B}  inside\n- # -odd name: 3 bytes\n{C}  -odd name"))
    assert listed.lookup("inside").digest.hex == B
    assert listed.lookup("-odd name") == Listed("-odd name", Digest("sha256", C), 3)
    with pytest.raises(ChecksumError, match="does not name outside"):
        listed.lookup("outside")


def test_dash_escapes_are_undone() -> None:
    # A line can begin with a dash only where a name without a digest does; the digest must survive what precedes it.
    assert parse(SIGNED.format(f"- -----\n- - x\n{B}  inside")).lookup("inside").digest.hex == B


def test_cut_short() -> None:
    with pytest.raises(FetchError, match="not complete"):
        parse(SIGNED.format(f"{B}  inside").partition("-----BEGIN PGP SIGNATURE")[0])
    with pytest.raises(ChecksumError, match=r"line 2 .*sha256 takes 64 hex digits, got 40"):
        parse(f"SHA256 (x) = {A}\nSHA256 (y) = {A[:40]}\n")
    with pytest.raises(ChecksumError, match="looks like JSON and is not"):
        parse((LISTS / "fcos-stable.json").read_text()[:-9])


# What is no list ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\ufeff \n\n", "empty"),
        ("<!DOCTYPE html><html><body>404</body></html>", "HTML page"),
        ("\n <html>", "HTML page"),
        ("Not Found\nsorry", "no checksums; it begins with 'Not Found'"),
        ("{}", "no checksums"),
        (json.dumps([{"sha256": A}]), "no checksums"),  # of what?
        ('[{"file_name": "x", "file_sha256": null}]', "no checksums"),
        ('[{"file_name": "x", "sha256": "zz"}]', "not a sha256 in hex: 'zz'"),
        ("[" * 100_000, "looks like JSON"),
        ('{"data": {"ref": "x"}, "metadata": {"annotations": {"cloud.debian.org/digest": "sha512:AAAA"}}}', "base64"),
        ("f" * 33 + "  x", "33 hex digits are no known digest"),
        (f"{A}  {'1a' * MAX_PATH}", f"a file with more than {MAX_PATH} characters"),
        ("x" * (MAX_LENGTH + 1), f"expected at most {MAX_LENGTH}"),
    ],
    ids=lambda value: value[:20],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ChecksumError, match=message):
        parse(text)


@pytest.mark.parametrize("size", [True, -1, "12", 1.5])
def test_sizes_that_are_none(size: object) -> None:
    text = json.dumps({"path": "x", "sha256": A, "size": size})
    assert parse(text).lookup("x").size is None


SCRAPS = [A, B, LONG, "  ", " *", "\n", "x", "x.img", "*", "\\", "SHA256 (", ") = ", "# ", ": 3 bytes", "[", "]", "}"]
SCRAPS += [
    '{"',
    '":"',
    '{"path":"x","sha256":"',
    "<",
    "\n-----BEGIN PGP SIGNATURE-----\n",
    "-----END PGP SIGNATURE-----",
]
SCRAPS += ["-----BEGIN PGP SIGNED MESSAGE-----\n\n"]
TEXTS = st.lists(st.sampled_from(SCRAPS) | st.text(max_size=4), max_size=12).map("".join)


@given(TEXTS, st.sampled_from(["x", "*", "", "x*g", "a/x"]))
def test_any_text_is_read_or_refused(text: str, name: str) -> None:
    try:
        listed = parse(text).lookup(name)
    except FetchError:
        return
    assert listed.digest.hex in text.lower()


class TestDress:
    """Lists as people find them."""

    def test_two_algorithms_of_one_length_under_headings(self) -> None:
        text = f"# BLAKE2B HASH\n{'b' * 128}  stage3.tar.xz\n# SHA512 HASH\n{'5' * 128}  stage3.tar.xz\n"
        found = parse(text).lookup("stage3.tar.xz")
        assert str(found.digest) == f"sha512:{'5' * 128}"

    @pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
    def test_utf_16_by_its_mark(self, order: str) -> None:
        line = f"{'a' * 64}  disk.img\r\n"
        found = parse(decode(("\ufeff" + line).encode(order))).lookup("disk.img")
        assert found.digest.hex == "a" * 64

    @pytest.mark.parametrize("style", ["{digits}  {name}", "SHA256 ({name}) = {digits}"])
    @pytest.mark.parametrize(
        "name",
        ["C:\\build\\out\\disk.img", "out\\disk.img", ".\\out\\disk.img", "D:/out/disk.img", "/srv/out/disk.img"],
    )
    def test_paths_of_whoever_made_the_list(self, name: str, style: str) -> None:
        found = parse(style.format(digits="a" * 64, name=name))
        assert found.lookup("disk.img").digest.hex == "a" * 64
        assert found.lookup("out/disk.img").name == "out/disk.img"
        assert found.lookup("d*.img").name == "disk.img"

    def test_paths_that_a_shell_on_windows_escaped(self) -> None:
        """What sha256sum writes there: a backslash is escaped, whatever it means."""
        assert parse(f"\\{'a' * 64} *out\\\\disk.img\n").lookup("disk.img").digest.hex == "a" * 64

    def test_a_backslash_may_be_a_part_of_a_name(self) -> None:
        found = parse(f"{'a' * 64}  out\\disk.img\n{'b' * 64}  disk.img\n")
        assert found.lookup("out\\disk.img").digest.hex == "a" * 64
        assert found.lookup("disk.img").digest.hex == "b" * 64

    @pytest.mark.parametrize("name", ["\\", "\\\\", "/\\", ".\\.", "a\\"])
    def test_backslashes_alone_are_no_path(self, name: str) -> None:
        with pytest.raises(ChecksumError, match="does not name"):
            parse(f"{'a' * 64}  {name}\n").lookup("disk.img")

    def test_paths_of_windows_may_contradict(self) -> None:
        with pytest.raises(ChecksumError, match=r"twice.*\(one/disk\.img\).*\(two/disk\.img\)"):
            parse(f"{'a' * 64}  one\\disk.img\n{'b' * 64}  two\\disk.img\n").lookup("disk.img")

    @pytest.mark.parametrize(
        "style", ["{}  -", "{} *-", "SHA256 (-) = {}", "SHA2-256(stdin)= {}", "SHA256(stdin)= {}", "(stdin)= {}"]
    )
    def test_what_was_hashed_from_a_pipe(self, style: str) -> None:
        assert parse(style.format("a" * 64)).lookup("disk.img").digest.hex == "a" * 64

    @pytest.mark.parametrize(
        "command",
        [["sha256sum"], ["sha256sum", "--tag"], ["openssl", "dgst", "-sha256"], ["shasum", "-a", "256"]],
        ids=" ".join,
    )
    def test_what_tools_write_of_a_pipe(self, command: list[str]) -> None:
        need(command[0])
        done = subprocess.run(command, input=b"content", capture_output=True, check=True)
        assert parse(done.stdout.decode()).lookup("disk.img").digest.hex == hashlib.sha256(b"content").hexdigest()

    @pytest.mark.parametrize(
        ("digits", "advice"),
        [("3" * 96, "verifies with sha512 or sha256"), ("5" * 32, "too weak"), ("1" * 40, "too weak")],
    )
    def test_what_is_weak_and_what_is_not(self, digits: str, advice: str) -> None:
        with pytest.raises(ChecksumError) as caught:
            parse(f"{digits}  disk.img\n").lookup("disk.img")
        assert advice in (caught.value.hint or "")

    def test_few_names_are_shown(self) -> None:
        with pytest.raises(ChecksumError) as caught:
            parse(f"{'a' * 64}  other\n").lookup("disk.img")
        assert caught.value.hint == "it has other"
        many = "".join(f"{'a' * 64}  zzz{number}\n" for number in range(5))
        with pytest.raises(ChecksumError) as caught:
            parse(many).lookup("disk.img")
        assert caught.value.hint == "it has zzz0, zzz1, zzz2, and 2 more, none of them similar"
