"""OpenPGP data as bytes (RFC 9580): clear-signed text, ASCII armour, packets, certificates; nothing is verified."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Packet types: RFC 9580, section 5.
SIGNATURE, PUBLIC_KEY, USER_ID, PUBLIC_SUBKEY = 2, 6, 13, 14


def excerpt(data: bytes) -> str:
    """Return the beginning of `data`'s first line, quoted, for a message."""
    lines = data.strip()[:60].splitlines()
    return repr(lines[0].decode("utf-8", "replace")) if lines else "nothing"


# Clear-signed text ------------------------------------------------------------------------------------------------

CLEARTEXT_HEADER = b"-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE_HEADER = b"-----BEGIN PGP SIGNATURE-----"
_SIGNATURE_FOOTER = b"-----END PGP SIGNATURE-----"


class Cleartext(NamedTuple):
    """The parts of a clear-signed document; nothing has been verified."""

    #: What was signed, in the form that `verify` describes.
    text: bytes
    #: The armoured signature.
    signature: bytes
    #: What stands before or after the signed block, without the blanks around it.
    outside: bytes


def split_cleartext(document: bytes) -> Cleartext:
    """Take the first clear-signed block of `document` apart (RFC 9580, section 7); raise SignatureError if broken."""
    lines = [line.rstrip(b" \t\r") for line in document.split(b"\n")]
    try:
        start = lines.index(CLEARTEXT_HEADER)
        body = lines.index(b"", start) + 1
        middle = lines.index(_SIGNATURE_HEADER, body)
        end = lines.index(_SIGNATURE_FOOTER, middle)
    except ValueError:
        raise SignatureError(
            "the clear-signed block is not complete",
            hint="the download was cut short, or the document is not what its name says; fetch it again",
        ) from None
    # A header that only looks like one would show the reader text that nobody signed.
    for header in lines[start + 1 : body - 1]:
        if not header.startswith(b"Hash: "):
            raise SignatureError(f"the clear-signed block has a header other than Hash: {excerpt(header)}")
    text = [line.removeprefix(b"- ") for line in lines[body:middle]]
    outside = b"\n".join((*lines[:start], *lines[end + 1 :])).strip()
    return Cleartext(b"\n".join(text), b"\n".join(lines[middle : end + 1]), outside)


# Packets ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet (RFC 9580, section 4)."""

    kind: int
    body: bytes
    #: Header and body.
    raw: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key or a subkey; the fingerprint is in upper case."""

    fingerprint: str
    created: datetime
    #: The signature packets that follow the key: over it, or over the user IDs of a primary key.
    signatures: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A primary key and what belongs to it (RFC 9580, section 10.1)."""

    primary: Key
    packets: list[bytes] = field(default_factory=list)
    subkeys: list[Key] = field(default_factory=list)
    user_ids: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.primary.fingerprint} ({self.user_ids[0]})" if self.user_ids else self.primary.fingerprint

    def __bytes__(self) -> bytes:
        return b"".join(self.packets)

    def find(self, issuer: str) -> Key | None:
        """Return the key that `issuer`, a fingerprint or a key ID, names."""
        for key in (self.primary, *self.subkeys):
            if issuer in (key.fingerprint, key.fingerprint[-16:]):
                return key
        return None


def dearmour(data: bytes) -> bytes:
    """Undo ASCII armour, of several blocks too (RFC 9580, section 6.2); binary data is returned as it is.

    The optional checksum is not looked at: what it could tell, a signature tells better.
    """
    # Every packet begins with this bit set, and no character of the armour has it.
    if data[:1] >= b"\x80":
        return data
    binary = bytearray()
    lines = (line.strip() for line in data.splitlines())
    for line in lines:
        if line.startswith(b"-----BEGIN PGP "):
            # A blank line ends the headers.
            encoded = takewhile(lambda line: not line.startswith(b"-----END PGP "), dropwhile(bool, lines))
            binary += base64.b64decode(b"".join(line for line in encoded if not line.startswith(b"=")), validate=True)
    return bytes(binary)


def split_packets(data: bytes) -> Iterator[Packet]:
    """Split binary OpenPGP data into packets (RFC 9580, section 4.2); raise ValueError where it is something else."""
    at = 0
    while at < len(data):
        start, head = at, data[at]
        if not head & 0x80:
            raise ValueError("not an OpenPGP packet")
        at += 1
        if head & 0x40:
            kind = head & 0x3F
            first = int.from_bytes(data[at : at + 1])
            if first < 192:
                length, at = first, at + 1
            elif first < 224:
                length, at = ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2]) + 192, at + 2
            elif first == 255:
                length, at = int.from_bytes(data[at + 1 : at + 5]), at + 5
            else:
                raise ValueError("a packet of partial length")
        else:
            kind = head >> 2 & 0x0F
            octets = (1, 2, 4, 0)[head & 3]
            if not octets:
                raise ValueError("a packet of indeterminate length")
            length, at = int.from_bytes(data[at : at + octets]), at + octets
        if length > len(data) - at:
            raise ValueError("a packet that ends too early")
        at += length
        yield Packet(kind, data[at - length : at], data[start:at])


def _key(body: bytes) -> Key:
    """Read a key packet; the fingerprint is RFC 9580, section 5.5.4."""
    version = body[0] if len(body) > 5 else 0
    created = datetime.fromtimestamp(int.from_bytes(body[1:5]), UTC)
    if version == 4:
        fingerprint = hashlib.sha1(b"\x99" + len(body).to_bytes(2) + body, usedforsecurity=False).hexdigest()
    elif version == 6:
        fingerprint = hashlib.sha256(b"\x9b" + len(body).to_bytes(4) + body).hexdigest()
    else:
        raise ValueError(f"a key of version {version}")
    return Key(fingerprint.upper(), created)


def read_keyring(keyring: bytes) -> list[Certificate]:
    """Return the certificates in `keyring`, armoured or binary; raise SignatureError where there are none.

    Of several copies of one certificate the last counts, so that a renewed key can be appended to the file.
    """
    certificates: list[Certificate] = []
    hint = "export the keys with: gpg --armor --export KEY > keys/NAME.asc"
    try:
        for packet in split_packets(dearmour(keyring)):
            if packet.kind == PUBLIC_KEY:
                certificates.append(Certificate(_key(packet.body)))
            elif not certificates:
                raise ValueError("expected a public key first")
            last = certificates[-1]
            last.packets.append(packet.raw)
            if packet.kind == PUBLIC_SUBKEY:
                last.subkeys.append(_key(packet.body))
            elif packet.kind == SIGNATURE:
                (last.subkeys or [last.primary])[-1].signatures.append(packet.raw)
            elif packet.kind == USER_ID:
                last.user_ids.append(packet.body.decode("utf-8", "replace"))
    except ValueError as error:
        raise SignatureError(f"the keyring cannot be read: {error}", hint=hint) from error
    if not certificates:
        raise SignatureError(
            f"the keyring has no keys: expected OpenPGP public keys, found {excerpt(keyring)}", hint=hint
        )
    return list({certificate.primary.fingerprint: certificate for certificate in certificates}.values())
