"""Partitions that are mounted by their types."""

from __future__ import annotations

import pytest

from recipes.formats.fs.devices import Device
from recipes.formats.fs.discoverable import discover
from recipes.formats.fs.partitions import Partition
from tests.kit.layouts import HOME_TYPE, LINUX, SRV_TYPE, USR_TYPE, VAR_TYPE

MACHINE = "0123456789abcdef0123456789abcdef"
VAR = "c0c46eff-e386-4746-a2bd-0962cd326ea2"


def partition(kind: str, number: int = 1, uuid: str = "", *, manual: bool = False) -> Device:
    return Device("ext4", None, Partition(number, 512, 512, kind, "", "gpt", uuid, manual))


def places(*devices: Device, machine: str = MACHINE) -> dict[bytes, int]:
    return {
        found.mount_point: found.device.partition.number
        for found in discover(devices, machine)
        if found.device.partition is not None
    }


def test_the_first_of_each_type() -> None:
    kinds = [LINUX, HOME_TYPE, SRV_TYPE, HOME_TYPE, USR_TYPE]
    found = places(*(partition(kind, number) for number, kind in enumerate(kinds)))
    assert found == {b"/home": 1, b"/srv": 2, b"/usr": 4}


def test_not_what_is_to_be_left_alone() -> None:
    assert places(partition(HOME_TYPE, manual=True), partition(HOME_TYPE, 2)) == {b"/home": 2}


def test_volumes_have_no_type() -> None:
    assert places(Device("ext4", None, None, "vg/home")) == {}


@pytest.mark.parametrize(
    ("machine", "uuid", "is_there"),
    [
        (MACHINE, VAR, True),
        (MACHINE, VAR[:-1] + "3", False),
        ("", VAR, False),
        ("uninitialized", VAR, False),
        ("0" * 32, VAR, False),
        (MACHINE + "00", VAR, False),
    ],
)
def test_var_of_this_machine_alone(machine: str, uuid: str, *, is_there: bool) -> None:
    assert bool(places(partition(VAR_TYPE, uuid=uuid), machine=machine)) is is_there
