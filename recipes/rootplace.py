"""Which file system of a disk is the root, if somebody says so: ``root`` in images.toml, ``--root`` in one step."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

_EXPECTED = (
    'expected "partition N", "volume GROUP/NAME", "subvolume PATH" or "deployment NAME", or, with commas between them, '
    "a partition or a volume and one of the others"
)
_VOLUME = re.compile(r"[A-Za-z0-9+_.-]{1,127}/[A-Za-z0-9+_.-]{1,127}", re.ASCII)
_MAX_PARTITION = 9999


class RootPlace(NamedTuple):
    """Where the root is; what is not said is found out."""

    #: As Linux counts them.
    partition: int | None = None
    #: Of LVM2: ``group/volume``.
    volume: str = ""
    #: Of btrfs: the path from the top level on, which is ``/`` itself; without a slash in front otherwise.
    subvolume: str = ""
    #: Of ostree: the folder's name, a commit, a dot and a number.
    deployment: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `text`; raise ValueError with what was expected.

        >>> RootPlace.parse("partition 3, subvolume /root")
        RootPlace(partition=3, volume='', subvolume='root', deployment='')
        """
        said: dict[str, str] = {}
        for part in text.split(","):
            word, _, value = part.strip().partition(" ")
            if word in said or not value.strip():
                raise ValueError(f"{_EXPECTED}; got {text!r}")
            said[word] = value.strip()
        partition, volume = said.pop("partition", ""), said.pop("volume", "")
        subvolume, deployment = said.pop("subvolume", ""), said.pop("deployment", "")
        if (
            said
            or (partition and volume)
            or (subvolume and deployment)
            or (partition and not (partition.isascii() and partition.isdecimal() and int(partition[:9]) > 0))
            or (partition and int(partition[:9]) > _MAX_PARTITION)
            or (volume and not _VOLUME.fullmatch(volume))
            or "/" in deployment
        ):
            raise ValueError(f"{_EXPECTED}; got {text!r}")
        return cls(int(partition) if partition else None, volume, subvolume.strip("/") or subvolume[:1], deployment)

    def __str__(self) -> str:
        said = {
            "partition": str(self.partition or ""),
            "volume": self.volume,
            "subvolume": self.subvolume,
            "deployment": self.deployment,
        }
        return ", ".join(f"{word} {value}" for word, value in said.items() if value)


#: Nobody said where it is.
ANYWHERE = RootPlace()


def declare(word: str, name: bytes) -> str:
    """Return what a person is told who has to choose among several, of which `name` is one."""
    value = name.decode(errors="backslashreplace")
    return f'declare root = "{word} {value}", or another of them; in single steps --root does the same'
