"""Who signed a document: detached and clear-signed OpenPGP signatures (RFC 9580).

The keyring is the whole trust: a signature counts when a key of the declared keyring made it, whatever the user's own
key store says. Two programs can do the arithmetic: Sequoia (the package pysequoia, extra ``openpgp``) and GnuPG's
gpgv. Either is asked one question only: did this key make this one signature over these bytes? Everything around it
(armour, framing, splitting, what the answer means) is decided here, so that both give the same verdicts:

* one good signature is enough, as Ubuntu and Debian sign with several keys of which a keyring may hold one;
* a key that has expired *by now* does not count, even for what it signed before (Sequoia alone would accept that);
* MD5, SHA-1 and RIPEMD-160 do not count (gpgv alone would accept the latter two);
* a revoked key does not count, whatever the reason of the revocation.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.errors import SignatureError

from .packets import (
    CLEARTEXT_HEADER,
    SIGNATURE,
    Certificate,
    Key,
    Packet,
    dearmour,
    excerpt,
    read_keyring,
    split_cleartext,
    split_packets,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pysequoia import Sig

    #: Judges one signature packet over a text.
    Check = Callable[[bytes, bytes, list[Certificate]], "_Finding"]

#: More signatures than this on one document are an attempt to keep us busy.
MAX_SIGNATURES = 16

# Hash algorithms that collisions are known or within reach for: RFC 9580, section 9.5.
_WEAK_HASHES = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160"}

_INSTALL = 'install Sequoia (pip install "larder-images[openpgp]") or gpgv (apt install gpgv, brew install gnupg)'


def verify(document: bytes, signature: bytes | None, keyring: bytes, *, what: str) -> bytes:
    """Return the bytes of `document` that a key in `keyring` signed; raise SignatureError, saying why, otherwise.

    `signature` is a detached signature, armoured or binary; then the whole document is signed and returned. Without
    it the document must be clear-signed, with nothing outside the signed block, and its text alone is returned: dash
    escapes undone, line ends as ``\\n``, no blanks at the ends of lines, no line end after the last (RFC 9580, section
    7: that is what was signed). `keyring` holds OpenPGP certificates, armoured or binary. `what` names the document in
    messages.
    """
    if signature is None:
        if CLEARTEXT_HEADER not in document:
            raise SignatureError(
                f"{what} is not signed: expected a clear-signed document, found none",
                hint="declare `signature`, the url of the detached signature, if upstream publishes one",
            )
        clear = split_cleartext(document)
        if clear.outside:
            raise SignatureError(
                f"{what} has text outside the signed block, beginning with {excerpt(clear.outside)}",
                hint="nobody signed that text; fetch the document again, or tell upstream",
            )
        document, signature = clear.text, clear.signature
    certificates = read_keyring(keyring)
    packets = _signatures(signature, what)
    for check in _checks():
        findings = [_judge(document, packet, certificates, check) for packet in packets]
        if any(found.verdict is _Verdict.GOOD for found in findings):
            return document
        # gpgv can use keys that Sequoia's policy rejects for their self-signatures. Trust does not rest on those: the
        # project itself put the key into its keyring.
        if all(found.verdict is not _Verdict.UNBOUND_KEY for found in findings):
            break
    raise _refusal(findings, certificates, what)


def _signatures(data: bytes, what: str) -> list[Packet]:
    try:
        packets = list(split_packets(dearmour(data)))
        if not packets or any(packet.kind != SIGNATURE for packet in packets):
            raise ValueError("no signature packets")
    except ValueError as error:
        raise SignatureError(
            f"the signature of {what} is not an OpenPGP signature ({error}); it begins with {excerpt(data)}",
            hint="check that `signature` is the url of a detached signature",
        ) from error
    if len(packets) > MAX_SIGNATURES:
        raise SignatureError(f"{what} has {len(packets)} signatures; at most {MAX_SIGNATURES} are looked at")
    return packets


# Verdicts ---------------------------------------------------------------------------------------------------------


class _Verdict(IntEnum):
    """What became of one signature; where none is good, the lowest is the one to tell."""

    GOOD = 0
    ALTERED = 1
    REVOKED_KEY = 2
    EXPIRED_KEY = 3
    EXPIRED_SIGNATURE = 4
    UNBOUND_KEY = 5
    UNUSABLE = 6
    WEAK = 7
    UNKNOWN_KEY = 8


@dataclass(frozen=True, slots=True)
class _Finding:
    verdict: _Verdict
    #: Fingerprint or key ID of the key that the signature names; "" where it names none.
    issuer: str = ""
    #: What the reader should know besides.
    detail: str = ""


def _checks() -> list[Check]:
    """Return what can check signatures here, the preferred one first."""
    checks: list[Check] = []
    try:
        import pysequoia  # noqa: F401
    except ImportError:
        pass
    else:
        checks.append(_check_with_sequoia)
    if shutil.which("gpgv"):
        checks.append(_check_with_gpgv)
    if not checks:
        raise SignatureError("a signature is declared, and nothing here can verify it", hint=_INSTALL)
    return checks


def _judge(
    text: bytes,
    signature: Packet,
    certificates: list[Certificate],
    check: Check,
) -> _Finding:
    # Version 3 has the algorithm elsewhere (RFC 9580, sections 5.2.2 and 5.2.3).
    position = 16 if signature.body[:1] == b"\x03" else 3
    weak = _WEAK_HASHES.get(int.from_bytes(signature.body[position : position + 1]))
    return _Finding(_Verdict.WEAK, detail=weak) if weak else check(text, signature.raw, certificates)


def _refusal(findings: list[_Finding], certificates: list[Certificate], what: str) -> SignatureError:
    worst = min(findings, key=lambda found: found.verdict)
    who = next((str(known) for known in certificates if known.find(worst.issuer)), worst.issuer)
    fetch_key = "fetch the current key from where upstream publishes it, and put it into the keyring"
    match worst.verdict:
        case _Verdict.ALTERED:
            return SignatureError(
                f"{what} is not what {who} signed: the text or the signature was altered",
                hint="list and signature may come from different moments; if it stays, do not trust this mirror",
            )
        case _Verdict.REVOKED_KEY:
            return SignatureError(f"{what} is signed with a key that was revoked: {who}", hint=fetch_key)
        case _Verdict.EXPIRED_KEY:
            return SignatureError(f"{what} is signed with a key that has expired: {who}", hint=fetch_key)
        case _Verdict.EXPIRED_SIGNATURE:
            return SignatureError(
                f"the signature of {what} by {who} has expired", hint="upstream must sign again; is the mirror stale?"
            )
        case _Verdict.UNBOUND_KEY:
            return SignatureError(
                f"{what} is signed by {who}, a key that Sequoia cannot use: it has no self-signature from before that "
                "signature (the key was renewed since), or only one by SHA-1",
                hint="install gpgv, which accepts such keys; or wait until upstream signs anew",
            )
        case _Verdict.WEAK:
            return SignatureError(
                f"the signature of {what} is too weak: it is made with {worst.detail}",
                hint="expected SHA-256 or better; pin the image with `digest` instead",
            )
        case _Verdict.UNKNOWN_KEY:
            issuers = ", ".join(dict.fromkeys(found.issuer for found in findings if found.issuer)) or "(unnamed)"
            held = ", ".join(map(str, certificates[:8])) + (", …" if certificates[8:] else "")
            return SignatureError(
                f"{what} is signed by key {issuers}, which the keyring does not hold; it holds {held}",
                hint="add the key to the keyring if upstream says that it is theirs",
            )
        case _:
            return SignatureError(f"the signature of {what} cannot be checked: {worst.detail}")


# Sequoia ----------------------------------------------------------------------------------------------------------


def _check_with_sequoia(text: bytes, signature: bytes, certificates: list[Certificate]) -> _Finding:
    """Ask Sequoia.

    pysequoia 0.1.35 says "no valid signatures found" whatever the reason, and judges expiry as of the moment of
    signing; hence the reasons are looked up here.
    """
    from pysequoia import Cert
    from pysequoia import verify as sequoia_verify
    from pysequoia.packet import SignatureType

    now = datetime.now(UTC)
    parsed = _parse(signature)
    if parsed is None:
        return _Finding(_Verdict.UNUSABLE, detail="Sequoia cannot read it")
    issuer = _issuer(parsed)
    for certificate in certificates:
        key = certificate.find(issuer)
        if key:
            break
    else:
        return _Finding(_Verdict.UNKNOWN_KEY, issuer)
    own = [sig for raw in key.signatures if (sig := _parse(raw))] if key is not certificate.primary else []
    try:
        cert = Cert.from_bytes(bytes(certificate))
        if cert.is_revoked or any(sig.signature_type == SignatureType.SubkeyRevocation for sig in own):
            return _Finding(_Verdict.REVOKED_KEY, issuer)
    except (RuntimeError, ValueError):
        return _Finding(_Verdict.UNUSABLE, issuer, f"Sequoia cannot read the key {certificate}")
    try:
        sequoia_verify(bytes=text, store=lambda _ids: [cert], signature=parsed)
        expires = [cert.expiration, _subkey_expiration(key, own)]
    except RuntimeError:
        if not all(_was_bound(each, certificate, parsed) for each in (certificate.primary, key)):
            return _Finding(_Verdict.UNBOUND_KEY, issuer)
        if parsed.expiration and parsed.expiration < now:
            return _Finding(_Verdict.EXPIRED_SIGNATURE, issuer)
        return _Finding(_Verdict.ALTERED, issuer)
    expired = any(moment is not None and moment < now for moment in expires)
    return _Finding(_Verdict.EXPIRED_KEY if expired else _Verdict.GOOD, issuer)


def _parse(signature: bytes) -> Sig | None:
    from pysequoia import Sig

    try:
        return Sig.from_bytes(signature)
    except (RuntimeError, ValueError):
        return None


def _issuer(signature: Sig) -> str:
    return (signature.issuer_fingerprint or signature.issuer_key_id or "").upper()


def _subkey_expiration(key: Key, own: list[Sig]) -> datetime | None:
    """Return when the newest of a subkey's binding signatures lets it expire."""
    from pysequoia.packet import SignatureType

    bindings = [sig for sig in own if sig.signature_type == SignatureType.SubkeyBinding and sig.created]
    newest = max(bindings, key=lambda sig: sig.created or key.created, default=None)
    return key.created + newest.key_validity_period if newest and newest.key_validity_period else None


def _was_bound(key: Key, certificate: Certificate, signature: Sig) -> bool:
    """Tell whether `key` has a self-signature of the kind that Sequoia wants: older than `signature`, not by SHA-1.

    gpg replaces self-signatures when a key's expiry is moved, so a renewed key has none from before its renewal.
    """
    from pysequoia.packet import HashAlgorithm

    return any(
        sig.hash_algorithm not in (HashAlgorithm.MD5, HashAlgorithm.SHA1, HashAlgorithm.RipeMD)
        and (sig.created is None or signature.created is None or sig.created <= signature.created)
        for raw in key.signatures
        if (sig := _parse(raw)) and certificate.find(_issuer(sig)) is certificate.primary
    )


# gpgv -------------------------------------------------------------------------------------------------------------

#: First words of gpgv's status lines (GnuPG, doc/DETAILS): exactly one of them per signature.
_STATUS = {
    "GOODSIG": _Verdict.GOOD,
    "BADSIG": _Verdict.ALTERED,
    "REVKEYSIG": _Verdict.REVOKED_KEY,
    "EXPKEYSIG": _Verdict.EXPIRED_KEY,
    "EXPSIG": _Verdict.EXPIRED_SIGNATURE,
}


def _check_with_gpgv(text: bytes, signature: bytes, certificates: list[Certificate]) -> _Finding:
    """Ask gpgv; its exit code says too little (0 for an expired key), its status lines say all."""
    with tempfile.TemporaryDirectory(prefix="larder-gpgv-") as name:
        home = Path(name)
        (home / "ring.gpg").write_bytes(b"".join(bytes(certificate) for certificate in certificates))
        (home / "signature").write_bytes(signature)
        (home / "document").write_bytes(text)
        # The temporary home keeps gpgv away from the user's own keys and settings.
        command = ["gpgv", "--homedir", name, "--keyring", str(home / "ring.gpg"), "--status-fd", "1"]
        run = subprocess.run(
            [*command, str(home / "signature"), str(home / "document")], capture_output=True, check=False
        )
    reports = (line.split() for line in run.stdout.decode("utf-8", "replace").splitlines())
    for _, word, *values in (report for report in reports if len(report) > 2 and report[0] == "[GNUPG:]"):
        if word in _STATUS:
            return _Finding(_STATUS[word], values[0])
        if word == "ERRSIG":
            # keyid pkalgo hashalgo class time rc [fingerprint]; rc 9 is a missing key.
            issuer = values[6] if len(values) > 6 and values[6] != "-" else values[0]
            if values[5] == "9":
                return _Finding(_Verdict.UNKNOWN_KEY, issuer)
            break
    return _Finding(_Verdict.UNUSABLE, detail=run.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2])
