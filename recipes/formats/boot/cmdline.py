"""The command line of a kernel.

Specification: Linux, Documentation/admin-guide/kernel-parameters.rst, and lib/cmdline.c: arguments are separated by
blanks, which double quotes keep together, and a hyphen and an underscore are one in names.
"""

from __future__ import annotations

import re

_ARGUMENT = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+')


def arguments(options: str) -> list[tuple[str, str | None]]:
    """Return the arguments by name and value, in their order; None is the value of one without ``=``.

    >>> arguments('ro root=UUID=1-2 rootflags="subvol=a b" quiet')
    [('ro', None), ('root', 'UUID=1-2'), ('rootflags', 'subvol=a b'), ('quiet', None)]
    """
    found = []
    for word in _ARGUMENT.findall(options):
        name, equals, value = word.replace('"', "").partition("=")
        found.append((name, value if equals else None))
    return found


def value(options: str, name: str) -> str | None:
    """Return the value of the last argument called `name`, which counts; None if there is none."""
    values = [given for each, given in arguments(options) if each.replace("-", "_") == name.replace("-", "_")]
    return values[-1] if values else None
