"""Which of two versions, or names with versions in them, is the newer one.

Specification: UAPI Group, Version Format Specification.
"""

from __future__ import annotations

import re
from functools import cmp_to_key

#: What is compared; everything else only separates.
_PART = re.compile(r"[0-9]+|[A-Za-z]+|[~^.-]")
#: What ends a part early, in the order in which the specification has it: each is older than those after it, and the
#: end of the text is between the first and the others.
_ORDER = {"~": -1, "": 0, "-": 1, "^": 2, ".": 3}


def compare(one: str, other: str) -> int:
    """Return a number below 0 if `one` is the older, above 0 if it is the newer, 0 if neither.

    >>> compare("6.9.0-1.fc44", "6.10.0-1.fc44") < 0, compare("1.0~rc1", "1.0") < 0, compare("01", "1")
    (True, True, 0)
    """
    ours, theirs = _PART.findall(one), _PART.findall(other)
    for index in range(max(len(ours), len(theirs))):
        mine = ours[index] if index < len(ours) else ""
        its = theirs[index] if index < len(theirs) else ""
        if mine == its:
            continue
        if mine in _ORDER or its in _ORDER:
            difference = _ORDER.get(mine, 4) - _ORDER.get(its, 4)
        elif mine.isdigit() and its.isdigit():
            mine, its = mine.lstrip("0"), its.lstrip("0")
            difference = len(mine) - len(its) or (mine > its) - (mine < its)
        else:
            # Numbers are newer than words.
            difference = mine.isdigit() - its.isdigit() or (mine > its) - (mine < its)
        if difference:
            return difference
    return 0


#: For `sorted` and `max`.
key = cmp_to_key(compare)
