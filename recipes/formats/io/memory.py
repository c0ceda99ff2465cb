"""Memory that is let go of and asked for again, thousands of times a second."""

from __future__ import annotations

from functools import cache

#: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Bytes: more than a decoder lets go of at once, and the most that M_MMAP_THRESHOLD may be (HEAP_MAX_SIZE / 2).
_KEPT, _FROM_HEAP = 256 << 20, 32 << 20


@cache
def keep_freed() -> None:
    """Have the C library keep what is freed for the next who asks, instead of giving it back to the kernel.

    The chunks of a decoder are just so large that glibc gives each back, and the kernel zeroes every page anew: 2.7 of
    34 seconds for 10 GiB of xz. Other C libraries are left as they are.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _FROM_HEAP)
