"""The entries in GRUB's configuration, as grub-mkconfig writes it.

Specification: GNU GRUB Manual 2.12, "Shell-like scripting", "menuentry", "submenu". It is a program, and is not run: of
each entry the kernel counts that is named last before its initrd, and of conditions both branches are read. So of
Ubuntu's entries, which may boot without an initrd too, it is the kernel line with one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from recipes.errors import LimitExceeded
from recipes.formats.tree.contents import contents

from . import bls
from .bls import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from recipes.formats.tree.tree import Tree

#: Where it is below /boot.
PLACES = (b"grub2/grub.cfg", b"grub/grub.cfg")
#: Bytes, words and entries that are read; a menu of a hundred entries has a tenth of that.
_MAX_TEXT = 1 << 20
_MAX_WORDS = 200_000
_MAX_ENTRIES = 256
#: Characters that an entry's options have, with their variables.
_MAX_OPTIONS = 64 << 10

#: A word, in quotes or not; or what ends a command, or begins or ends a block. A backslash before the end of a line is
#: nothing; comments are left out.
_WORD = re.compile(
    r"""(?P<word>(?:[^\s"';{}#&|\\]|\\[^\n]|"(?:[^"\\]|\\.)*"|'[^']*'|\$\{[^}\s]*\}|(?<=\S)\#)+)"""
    r"""|(?P<end>[;\n{}&|]+)|\\\n|\#[^\n]*|\s|.""",
    re.DOTALL,
)
_PIECE = re.compile(
    r"""'(?P<plain>[^']*)'|"(?P<quoted>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|(?P<bare>(?:[^'"\\])+|.)""", re.DOTALL
)
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))|\\([\"\\$])")
_LINUX = ("linux", "linux16", "linuxefi")
_INITRD = ("initrd", "initrd16", "initrdefi")


def entries(tree: Tree, boot: bytes = b"") -> list[Entry]:
    """Return the entries of the GRUB below the folder `boot` of `tree`, the one that it would boot first.

    Errors: `LimitExceeded` for more than 1 MiB of configuration, or 256 entries; `CorruptImage`.
    """
    prefix = boot.strip(b"/") + b"/" if boot.strip(b"/") else b""
    for place in PLACES:
        text = contents(tree, prefix + place, _MAX_TEXT)
        if text is not None:
            return parse(text, bls.environment(tree, boot))
    return []


def parse(text: bytes, variables: Mapping[str, str]) -> list[Entry]:
    """Return the entries in a configuration that have a kernel; `variables` are those of GRUB's environment.

    First is what ``set default=`` says, by its number, title or identifier; entries of submenus come last.

    >>> parse(b'menuentry "A" --id a {\\n linux /v root=LABEL=x ro\\n initrd /i\\n}\\n', {})[0].options
    'root=LABEL=x ro'
    """
    menu = _Menu(variables)
    for command in _commands(text.decode("utf-8", "surrogateescape")):
        menu.take(command)
    return menu.entries()


def _commands(text: str) -> Iterator[list[str]]:
    """Yield commands word by word, as they are written; braces are commands of their own."""
    words: list[str] = []
    for count, match in enumerate(_WORD.finditer(text)):
        if count > 5 * _MAX_WORDS:
            raise LimitExceeded(f"grub.cfg has more than {_MAX_WORDS} words")
        if match["word"]:
            words.append(match["word"])
        elif match["end"]:
            # The brace belongs to what is before it: menuentry … {
            for sign in match["end"]:
                if words:
                    yield words
                    words = []
                if sign in "{}":
                    yield [sign]
    if words:
        yield words


class _Menu:
    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._default = ""
        #: Of each block that is open: the entry in it, None in a submenu or a function.
        self._open: list[_Block | None] = []
        self._pending: _Block | None = None
        self._submenus = 0
        self._top: list[_Block | None] = []
        self._all: list[_Block] = []

    def take(self, words: list[str]) -> None:
        if words == ["{"]:
            self._open.append(self._pending)
            self._pending = None
        elif words == ["}"]:
            if self._open and (block := self._open.pop()) is not None and block.is_submenu:
                self._submenus -= 1
        elif words[0] in ("menuentry", "submenu"):
            self._begin([_plain(word, self._variables) for word in words], words)
        elif words[0] == "set" and len(words) > 1 and words[1].startswith("default="):
            self._default = _plain(words[1].removeprefix("default="), self._variables) or self._default
        elif self._open and (block := self._open[-1]) is not None and not block.is_submenu:
            block.take(words, self._variables)

    def _begin(self, plain: list[str], words: list[str]) -> None:
        block = _Block(plain[1] if len(plain) > 1 else "", words[0] == "submenu", self._submenus)
        for at, word in enumerate(words[:-1]):
            # A variable of GRUB's own, which is --id where there are identifiers.
            if word in ("--id", "$menuentry_id_option", "${menuentry_id_option}"):
                block.name = plain[at + 1]
        if not self._submenus:
            self._top.append(block)
        self._submenus += block.is_submenu
        self._all.append(block)
        if len(self._all) > _MAX_ENTRIES:
            raise LimitExceeded(f"grub.cfg has more than {_MAX_ENTRIES} entries")
        self._pending = block

    def entries(self) -> list[Entry]:
        # Of a default in a submenu the last part is the entry's own.
        wanted = self._default.rpartition(">")[2]
        found = [block for block in self._all if block.linux]
        found.sort(key=lambda block: (not self._is(block, wanted), block.depth, block.entry().rescue))
        return [block.entry() for block in found]

    def _is(self, block: _Block, wanted: str) -> bool:
        if wanted.isdecimal() and wanted.isascii():
            here = [each for each in self._top if each is block]
            return bool(here) and len(wanted) < 4 and self._top[int(wanted) : int(wanted) + 1] == here
        return wanted in (block.name, block.title) and bool(wanted)


class _Block:
    """A menuentry or a submenu."""

    def __init__(self, title: str, is_submenu: bool, depth: int) -> None:
        self.title = self.name = title
        self.is_submenu = is_submenu
        self.depth = depth
        self.linux: list[str] = []
        self.initrd: list[str] = []

    def take(self, words: list[str], variables: Mapping[str, str]) -> None:
        if words[0] in _LINUX and not self.initrd:
            self.linux = [plain for word in words[1:] if (plain := _plain(word, variables))]
        elif words[0] in _INITRD and not self.initrd:
            self.initrd = [plain for word in words[1:] if (plain := _plain(word, variables))]
        if sum(map(len, self.linux)) > _MAX_OPTIONS:
            raise LimitExceeded(f"the boot entry {self.title} has more than {_MAX_OPTIONS} characters of options")

    def entry(self) -> Entry:
        # What has blanks in it was in quotes, and is again.
        options = (f'"{word}"' if re.search(r"\s", word) else word for word in self.linux[1:])
        return Entry(
            name=self.name,
            title=self.title,
            linux=self.linux[0],
            initrd=tuple(self.initrd),
            options=" ".join(options),
        )


def _plain(word: str, variables: Mapping[str, str]) -> str:
    """Return a word without its quotes, and with the values of its variables."""
    found = []
    for piece in _PIECE.finditer(word):
        if piece["plain"] is not None:
            found.append(piece["plain"])
        elif piece["escaped"] is not None:
            found.append(piece["escaped"])
        else:
            text = piece["bare"] if piece["quoted"] is None else piece["quoted"]
            found.append(_VARIABLE.sub(lambda match: match[3] or variables.get(match[1] or match[2], ""), text))
        if sum(map(len, found)) > _MAX_OPTIONS:
            raise LimitExceeded(f"a word of grub.cfg has more than {_MAX_OPTIONS} characters")
    return "".join(found)
