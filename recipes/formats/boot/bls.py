"""Boot loader entries of type 1: a text file for each thing that can be booted.

Specification: UAPI Group, Boot Loader Specification, "Type #1 Boot Loader Specification Entries". GRUB's module blscfg,
which Fedora, Red Hat and CoreOS have, adds variables and its own choice (Fedora, GRUB's blscfg.c).
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import LimitExceeded
from recipes.formats.tree.contents import contents
from recipes.formats.tree.tree import show

from . import grubenv, version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from recipes.formats.tree.tree import Tree

#: Where they are below /boot.
ENTRIES = b"loader/entries"
_SETTINGS = b"loader/loader.conf"
_ENVIRONMENTS = (b"grub2/grubenv", b"grub/grubenv")
#: Bytes of an entry and of the boot loader's settings, lines of an entry, and entries that are read.
_MAX_TEXT = 64 << 10
_MAX_LINES = 1000
_MAX_ENTRIES = 256
#: Characters of a version that are compared: it is done for each pair of entries.
_MAX_VERSION = 256

#: What counts the attempts to boot an entry is no part of its name: those that are left, and those that were made.
_COUNTER = re.compile(r"\+([0-9]+)(?:-[0-9]+)?$", re.ASCII)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


class Entry(NamedTuple):
    """Something that can be booted. What the file does not say is empty."""

    #: The name of the file without ``.conf`` and without a counter.
    name: str
    title: str = ""
    version: str = ""
    machine_id: str = ""
    sort_key: str = ""
    #: Paths from the top of the file system that the entry is on, with their slash: `linux` of a kernel, `efi` of a
    #: program that the firmware starts instead. Nobody has checked them.
    linux: str = ""
    initrd: tuple[str, ...] = ()
    efi: str = ""
    devicetree: str = ""
    architecture: str = ""
    #: The command line of the kernel, in one line.
    options: str = ""
    #: Whether all attempts to boot it failed.
    bad: bool = False

    @property
    def rescue(self) -> bool:
        """Whether it is for a machine that does not boot otherwise."""
        return any(word in f"{self.name} {self.title}".lower() for word in ("rescue", "recovery"))


def parse(name: str, text: bytes, variables: Mapping[str, str]) -> Entry:
    """Return the entry that the file called `name` (with its ``.conf``) holds; `variables` are those of GRUB.

    A variable that is not there is empty, as for GRUB. Lines without a value and unknown keys are passed over. Raise
    LimitExceeded if the variables make it longer than a file may be.

    >>> parse("a+0-3.conf", b"linux /vmlinuz\\noptions ro\\noptions $more quiet\\n", {"more": "x=y"}).options
    'ro x=y quiet'
    """
    values: dict[str, list[str]] = {}
    for line in text.decode("utf-8", "surrogateescape").splitlines()[:_MAX_LINES]:
        key, *rest = line.strip().split(maxsplit=1)[:2] or [""]
        if rest and not key.startswith("#"):
            values.setdefault(key, []).append(rest[0])
    plain = name.removesuffix(".conf")
    counter = _COUNTER.search(plain)

    def last(key: str) -> str:
        return values.get(key, [""])[-1].strip()

    def expanded(key: str) -> str:
        return " ".join(_expanded(name, " ".join(values.get(key, [])), variables).split())

    return Entry(
        name=_COUNTER.sub("", plain),
        title=last("title"),
        version=last("version"),
        machine_id=last("machine-id"),
        sort_key=last("sort-key"),
        linux=last("linux"),
        # GRUB takes several in one line, too.
        initrd=tuple(expanded("initrd").split()),
        efi=last("efi"),
        devicetree=last("devicetree"),
        architecture=last("architecture"),
        options=expanded("options"),
        bad=counter is not None and not int(counter[1]),
    )


def _expanded(name: str, text: str, variables: Mapping[str, str]) -> str:
    # Each of thousands of names may stand for as much as all of them.
    length = len(text)

    def of(match: re.Match[str]) -> str:
        nonlocal length
        found = variables.get(match[1] or match[2], "")
        length += len(found)
        if length > _MAX_TEXT:
            raise LimitExceeded(f"the boot entry {name} has more than {_MAX_TEXT} bytes with its variables")
        return found

    return _VARIABLE.sub(of, text)


def entries(tree: Tree, boot: bytes = b"") -> list[Entry]:
    """Return the entries below the folder `boot` of `tree`, the one that a boot loader prefers first.

    That is what was chosen last (``saved_entry`` of GRUB) or what the loader's settings say (``default`` of
    systemd-boot); then, as the specification sorts, the newest by sort-key, machine and version, and of entries without
    a sort-key by the name; then those that failed, and those for rescue.

    Errors: `LimitExceeded` for more than 256 entries, or more than 64 KiB in one; `CorruptImage`.
    """
    prefix = boot.strip(b"/") + b"/" if boot.strip(b"/") else b""
    folder = tree.follow(prefix + ENTRIES)
    names = sorted(name for name in folder.children if name.endswith(b".conf")) if folder is not None else []
    if len(names) > _MAX_ENTRIES:
        raise LimitExceeded(f"{show(prefix + ENTRIES)}: {len(names)} boot entries, and {_MAX_ENTRIES} are read")
    variables = environment(tree, boot)
    found = []
    for name in names:
        text = contents(tree, prefix + ENTRIES + b"/" + name, _MAX_TEXT)
        if text is not None:
            found.append(parse(name.decode("utf-8", "surrogateescape"), text, variables))
    settings = contents(tree, prefix + _SETTINGS, _MAX_TEXT) or b""
    patterns = re.findall(r"^\s*default\s+(\S+)", settings.decode("utf-8", "replace"), re.MULTILINE)
    wanted = variables.get("saved_entry", "")
    # Python's sort is stable: what decides most comes last.
    found.sort(key=lambda each: version.key(each.name), reverse=True)
    found.sort(key=lambda each: version.key(each.version[:_MAX_VERSION]), reverse=True)
    found.sort(key=lambda each: (not each.sort_key, each.sort_key, each.machine_id))
    found.sort(key=lambda each: (each.bad, each.rescue))
    found.sort(key=lambda each: each.name != wanted and not any(_matches(each, pattern) for pattern in patterns[-1:]))
    return found


def environment(tree: Tree, boot: bytes = b"") -> dict[str, str]:
    """Return the variables of the GRUB below the folder `boot` of `tree`; none if it has none. Errors: as `entries`."""
    prefix = boot.strip(b"/") + b"/" if boot.strip(b"/") else b""
    for place in _ENVIRONMENTS:
        text = contents(tree, prefix + place, grubenv.MAX_SIZE)
        if text is not None:
            return grubenv.parse(text)
    return {}


def _matches(entry: Entry, pattern: str) -> bool:
    return fnmatchcase(entry.name, pattern) or fnmatchcase(f"{entry.name}.conf", pattern)
