from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from recipes.errors import CorruptImage, UnsupportedFeature
from recipes.formats.disk.vhdx import layout
from recipes.formats.disk.vhdx.header import claimed_size
from tests.kit.disk_images import refused
from tests.kit.vhdx_images import BAT, GUID, META, header, image, metadata, regions

if TYPE_CHECKING:
    from pathlib import Path

MiB = 1 << 20
UNKNOWN = UUID(int=99)


def of(**parts: bytes) -> bytes:
    return image([0], b"", MiB, **parts)


@pytest.mark.parametrize(
    ("whole", "feature"),
    [
        (of(header=header(version=2)), "version 2"),
        (of(header=header(guid=GUID, log_version=1)), "version 1 of the log"),
        (of(regions=regions((UNKNOWN, 9 * MiB, MiB, 1))), f"the region {UNKNOWN}"),
        (of(metadata=metadata(MiB, more={UNKNOWN: b"x"})), f"the metadata {UNKNOWN}"),
        (of(metadata=metadata(MiB, flags=2)), "a parent"),
        (of(metadata=metadata(MiB, more={layout.PARENT_LOCATOR: b"x" * 20})), "a parent"),
    ],
)
def test_what_is_not_read_is_named(whole: bytes, feature: str, tmp_path: Path) -> None:
    refused(tmp_path / "vhdx", whole, UnsupportedFeature, feature)


@pytest.mark.parametrize(
    ("whole", "problem"),
    [
        (of(regions=regions(bat=(BAT + 512, MiB))), "cannot be"),
        (of(regions=regions(bat=(0, MiB))), "cannot be"),
        (of(regions=regions(bat=(META, MiB))), "overlap"),
        (of(regions=regions((layout.BAT_REGION, 9 * MiB, MiB, 1))), "cannot be"),
    ],
)
def test_regions_that_cannot_be(whole: bytes, problem: str, tmp_path: Path) -> None:
    refused(tmp_path / "vhdx", whole, CorruptImage, problem)


def test_a_region_that_need_not_be_known(tmp_path: Path) -> None:
    whole = of(regions=regions((UNKNOWN, 9 * MiB, MiB, 0)))
    assert claimed_size(lambda at, count: whole[at : at + count], len(whole)) == MiB


def test_the_size_that_is_claimed() -> None:
    whole = of()
    assert claimed_size(lambda at, count: whole[at : at + count], len(whole)) == MiB


@pytest.mark.parametrize("cut", [100, 200 << 10, 2 * MiB, 2 * MiB + (64 << 10)])
def test_a_beginning_claims_nothing(cut: int) -> None:
    part = of()[:cut]
    assert claimed_size(lambda at, count: part[at : at + count], None) is None
