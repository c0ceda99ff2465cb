"""What can go wrong, in words for the person at the terminal.

Every error says what was expected and what was found; ``hint`` says what to do about it. Whoever talks to a person
(the graph's glue, ``python -m recipes``) prints ``str(error)`` and never a traceback: a traceback means a bug.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` on one line, with everything escaped that a terminal acts on or cannot show.

    Names from outside may hold escape sequences, newlines that feign another message, marks that turn the direction of
    writing, and halves of surrogates, which no stream takes.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class LarderError(Exception):
    """The root of all errors that a user can meet; anything else that escapes is a bug.

    Every line of the message is made `printable`, whoever wrote it; names from outside that could hold a newline have
    to be before they become part of it.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message = "\n".join(map(printable, message.split("\n")))
        hint = "\n".join(map(printable, hint.split("\n"))) if hint else hint
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class DeclarationError(LarderError):
    """images.toml does not say what it should; the message holds every problem, one a line."""


class SettingsError(LarderError):
    """A LARDER_* environment variable has a value that cannot be used."""


class FetchError(LarderError):
    """What is outside could not be had, or is not what it should be."""

    #: The url that it is about, where a redirect of the one that was asked for led to it, on another host.
    redirected: str | None = None


class OfflineError(FetchError):
    """The network is needed, and LARDER_OFFLINE forbids it."""


class DigestMismatch(FetchError):
    """The bytes that arrived are not the ones that were declared."""


class ChecksumError(FetchError):
    """A checksum list cannot be used, or does not say what is asked of it."""


class SignatureError(FetchError):
    """A document is not signed, or not by whom the keyring names."""


class ImageError(LarderError):
    """An image's bytes cannot be used."""


class CorruptImage(ImageError):
    """The bytes contradict their own format, or claim more than there is."""


class UnsupportedFeature(ImageError):
    """The bytes are valid and use a feature, named in the message, that larder does not read."""


class LimitExceeded(ImageError):
    """The image claims, or expands to, more than the limits allow."""


class StoreError(LarderError):
    """The cache cannot do what is asked of it."""


class InUse(StoreError):
    """Another process works on what is to be changed."""


class NoSpace(StoreError):
    """There is less room than what is about to be written."""


class Interrupted(LarderError):
    """The run was told to stop (SIGINT or SIGTERM)."""
