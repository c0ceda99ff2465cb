"""The compressed clusters of QCOW2: a deflate stream or a zstd frame each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.formats.codec import libzstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from .image import Qcow2


def inflater(image: Qcow2) -> Callable[[memoryview, int], bytes | bytearray]:
    """Return this thread's function from stored bytes and a guest offset to one cluster, or `CorruptImage`.

    What follows the compressed data is ignored: lengths in the L2 table are rounded up to sectors.
    """
    size = image.header.cluster_size

    def wrong(guest: int, found: str) -> Exception:
        return image.corrupt(f"the compressed cluster at guest offset {guest} {found}")

    if image.header.compression == "zlib":
        from deflate import DeflateError, deflate_decompress

        def inflate(stored: memoryview, guest: int) -> bytes | bytearray:
            try:
                data: bytearray = deflate_decompress(stored, size)
            except DeflateError:
                raise wrong(guest, f"is not a deflate stream of at most {size} bytes") from None
            if len(data) != size:
                raise wrong(guest, f"has {len(data)} bytes instead of {size}")
            return data

        return inflate

    decompress = libzstd.backend().decompress

    def unzstd(stored: memoryview, guest: int) -> bytes | bytearray:
        try:
            claimed = libzstd.header(stored).content
            if claimed not in (size, None):
                raise wrong(guest, f"claims {claimed} bytes instead of {size}")
            data = decompress(stored, size)
        except libzstd.ZstdError as error:
            raise wrong(guest, f"is not a zstd frame: {error}") from None
        if len(data) != size:
            raise wrong(guest, f"has {len(data)} bytes instead of {size}")
        return data

    return unzstd
