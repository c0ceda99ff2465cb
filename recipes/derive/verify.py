"""Hold an artifact's bytes against its receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recipes.errors import ImageError
from recipes.formats.io import blkhash, digests

if TYPE_CHECKING:
    from recipes.cache.receipt import Receipt
    from recipes.cache.store import Entry
    from recipes.progress import Progress


def damage(entry: Entry, receipt: Receipt, *, jobs: int, progress: Progress) -> str | None:
    """Return what is wrong with the artifact of `receipt`, None where its bytes are the ones that were recorded.

    A RAW is verified by its blkhash, at the price of its data; everything else by its digest.
    """
    path, expected = entry.artifact(receipt.kind), receipt.artifact
    label = f"{receipt.kind}:{receipt.image}"
    try:
        size = path.stat().st_size
        if size != expected.size:
            return f"expected {expected.size} bytes, found {size}"
        with progress.meter(label, size) as meter:
            if expected.blkhash is not None:
                found = blkhash.of_file(path, jobs=jobs, meter=meter)
                return _difference("blkhash", expected.blkhash, found)
            if expected.digest is None:
                return "the receipt records no digest"
            return _difference("digest", expected.digest, digests.of_file(path, expected.digest.algorithm, meter))
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    except ImageError as error:
        return error.message


def _difference(what: str, expected: object, found: object) -> str | None:
    return None if expected == found else f"expected {what} {expected}, found {found}"
