from __future__ import annotations

from pathlib import Path

import pytest

from recipes.formats.codec.compression import CODECS
from recipes.formats.disk.foreign import _FOREIGN, describe, refusal
from recipes.formats.disk.table import FORMATS
from recipes.formats.io import probe

PATH = Path("/images/thing.bin")


@pytest.mark.parametrize("name", sorted({*_FOREIGN, *CODECS, *probe.DISK_FORMATS, "tar", "raw", "iso9660"}))
def test_everything_has_a_name_that_people_know(name: str) -> None:
    said = describe(name)
    assert said != name or name == "text"
    assert said.startswith(("a ", "an ", "data ", "text"))


def test_a_format_of_which_nothing_is_known_is_told_as_it_is() -> None:
    assert describe("something") == "something"


@pytest.mark.parametrize("name", sorted({*_FOREIGN, *CODECS, *probe.DISK_FORMATS, "tar", "raw"}))
def test_a_refusal_says_what_was_expected_and_what_there_is(name: str) -> None:
    error = refusal(PATH, name, "a disk image")
    assert error.message == f"{PATH}: expected a disk image, found {describe(name)}"


@pytest.mark.parametrize("name", sorted(CODECS))
def test_compression_is_undone_by_a_step_of_ours(name: str) -> None:
    assert refusal(PATH, name, "x").hint == f"python -m recipes content {PATH} DST undoes the compression"


@pytest.mark.parametrize("name", sorted(probe.DISK_FORMATS))
def test_a_disk_is_converted_by_us_or_by_qemu(name: str) -> None:
    hint = refusal(PATH, name, "x").hint or ""
    assert ("python -m recipes raw" in hint) == (name in FORMATS)
    assert ("qemu-img convert" in hint) == (name not in FORMATS)


def test_a_tarball_has_two_homes() -> None:
    hint = refusal(PATH, "tar", "x").hint or ""
    assert 'kind = "rootfs"' in hint
    assert 'kind = "oci"' in hint


@pytest.mark.parametrize("name", sorted(_FOREIGN))
def test_qemu_is_recommended_for_disks_only(name: str) -> None:
    assert "qemu-img" not in (refusal(PATH, name, "x").hint or "")
