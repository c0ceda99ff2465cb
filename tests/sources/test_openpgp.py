"""Signatures that gpg makes, judged by Sequoia and by gpgv: both must say the same."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from recipes.errors import SignatureError
from recipes.sources.openpgp import MAX_SIGNATURES, verify
from tests.kit.oracles import need
from tests.kit.signer import LIST, Signer, home

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a clear signature over LIST signs.
CLEAR = b"hello  list\n- dashed\nFrom here\n\nlast line"


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    need("gpg", "gpgv", "gpgconf")
    with home() as made:
        for name in ("alice", "bob", "parent", "lapsed", "revoked", "oldsub", "badsub"):
            made.make(name)
        made.make("expired", expire="1d")
        made.make("renewed", expire="1d")
        made.make("sha1bound", "--cert-digest-algo", "SHA1")
        made.make("rsa", algorithm="rsa2048")
        made.add_subkey("parent")
        made.add_subkey("lapsed", expire="1d")
        made.add_subkey("oldsub", "--allow-weak-key-signatures", "--cert-digest-algo", "SHA1", algorithm="rsa2048")
        made.add_subkey("badsub")
        yield made


@pytest.fixture(params=["sequoia", "gpgv"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave only one of the two."""
    name: str = request.param
    only(name, monkeypatch)
    return name


def only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "gpgv":
        need("gpgv")
        monkeypatch.setitem(sys.modules, "pysequoia", None)
    else:
        if os.environ.get("LARDER_REQUIRE_ORACLES") != "1":
            pytest.importorskip("pysequoia")
        monkeypatch.setattr(shutil, "which", lambda _name: None)


# Accepted -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("armour", [(), ("--armor",)], ids=["binary", "armoured"])
@pytest.mark.parametrize("armoured_keyring", [False, True])
def test_detached(signer: Signer, backend: str, armour: tuple[str, ...], armoured_keyring: bool) -> None:
    signature = signer.sign("alice", options=armour)
    keyring = signer.export("bob", "alice", armour=armoured_keyring)
    assert verify(LIST, signature, keyring, what="SHA256SUMS") == LIST


def test_armoured_keys_one_after_another(signer: Signer, backend: str) -> None:
    keyring = b"Ubuntu's key:\n" + signer.export("bob", armour=True) + b"\n\n" + signer.export("alice", armour=True)
    assert verify(LIST, signer.sign("alice"), keyring.replace(b"\n", b"\r\n"), what="SHA256SUMS") == LIST


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_clear_signed(signer: Signer, backend: str, ends: bytes) -> None:
    document = signer.sign("alice", how="--clearsign").replace(b"\n", ends)
    assert b"- - dashed" in document
    assert verify(b"\n" + document + b"\n \n", None, signer.export("alice"), what="CHECKSUM") == CLEAR


def test_signed_by_a_subkey(signer: Signer, backend: str) -> None:
    _, subkey = signer.fingerprints("parent")
    signature = signer.gpg("--local-user", f"{subkey}!", "--detach-sign", data=LIST)
    assert verify(LIST, signature, signer.export("parent"), what="SHA256SUMS") == LIST


@pytest.mark.parametrize("known", ["alice", "rsa"])
@pytest.mark.parametrize("how", ["--detach-sign", "--clearsign"])
def test_one_known_signer_of_several_is_enough(signer: Signer, backend: str, known: str, how: str) -> None:
    # Different hash algorithms, as signatures by old and new keys have.
    signed = signer.sign("alice", "rsa", how=how)
    if how == "--clearsign":
        assert verify(signed, None, signer.export(known), what="CHECKSUM") == CLEAR
    else:
        assert verify(LIST, signed, signer.export(known), what="CHECKSUM") == LIST
        mixed = signer.sign("alice", options=("--digest-algo", "SHA512")) + signer.sign("rsa")
        assert verify(LIST, mixed, signer.export(known), what="CHECKSUM") == LIST


def test_a_document_may_be_empty(signer: Signer, backend: str) -> None:
    assert verify(b"", signer.sign("alice", data=b""), signer.export("alice"), what="SHA256SUMS") == b""


# Refused ------------------------------------------------------------------------------------------------------------


def refused(document: bytes, signature: bytes | None, keyring: bytes, message: str) -> SignatureError:
    with pytest.raises(SignatureError, match=message) as caught:
        verify(document, signature, keyring, what="SHA256SUMS")
    assert "Stack backtrace" not in str(caught.value)
    return caught.value


def test_wrong_key(signer: Signer, backend: str) -> None:
    alice, bob = signer.fingerprints("alice")[0], signer.fingerprints("bob")[0]
    message = rf"SHA256SUMS is signed by key {alice}, which the keyring does not hold; it holds {bob} \(bob@"
    refused(LIST, signer.sign("alice"), signer.export("bob"), message)
    refused(signer.sign("alice", how="--clearsign"), None, signer.export("bob"), message)


def test_expired_key(signer: Signer, backend: str) -> None:
    fingerprint = signer.fingerprints("expired")[0]
    refused(LIST, signer.sign("expired"), signer.export("expired"), f"with a key that has expired: {fingerprint}")


def test_expired_subkey(signer: Signer, backend: str) -> None:
    _, subkey = signer.fingerprints("lapsed")
    signature = signer.gpg("--local-user", f"{subkey}!", "--detach-sign", data=LIST)
    refused(LIST, signature, signer.export("lapsed"), "with a key that has expired: .*lapsed@")


def test_revoked_key(signer: Signer, backend: str) -> None:
    signature = signer.sign("revoked")
    fingerprint = signer.fingerprints("revoked")[0]
    certificate = (signer.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_bytes()
    # gpg puts a colon before the armour so that nobody imports it by accident.
    armour = certificate[certificate.index(b":-----BEGIN") :].replace(b":-----", b"-----")
    with home() as other:
        other.gpg("--import", data=signer.export("revoked"))
        other.gpg("--import", data=armour)
        keyring = other.export("revoked")
    refused(LIST, signature, keyring, f"with a key that was revoked: {fingerprint}")


def test_revoked_subkey(signer: Signer, backend: str) -> None:
    primary, subkey = signer.fingerprints("badsub")
    before = signer.export("badsub")
    signature = signer.gpg("--local-user", f"{subkey}!", "--detach-sign", data=LIST)
    assert verify(LIST, signature, before, what="SHA256SUMS") == LIST
    with home() as other:
        other.gpg("--import", data=signer.gpg("--export-secret-keys", primary))
        answers = b"key 1\nrevkey\ny\n0\n\ny\nsave\n"
        other.gpg("--expert", "--command-fd", "0", "--edit-key", primary, data=answers)
        keyring = other.export("badsub")
    refused(LIST, signature, keyring, "with a key that was revoked: .*badsub@")


def test_expired_signature(signer: Signer, backend: str) -> None:
    signature = signer.sign("alice", options=("--default-sig-expire", "1d"))
    refused(LIST, signature, signer.export("alice"), "the signature of SHA256SUMS by .*alice@.* has expired")


def test_altered(signer: Signer, backend: str) -> None:
    message = "SHA256SUMS is not what .*alice@.* signed: the text or the signature was altered"
    refused(LIST + b"more\n", signer.sign("alice"), signer.export("alice"), message)
    document = signer.sign("alice", how="--clearsign").replace(b"hello", b"hellO")
    refused(document, None, signer.export("alice"), message)


def test_altered_and_one_unknown_signer(signer: Signer, backend: str) -> None:
    refused(b"other", signer.sign("bob", "alice"), signer.export("alice"), "altered")


def test_text_outside_the_signed_block(signer: Signer, backend: str) -> None:
    document = signer.sign("alice", how="--clearsign")
    keyring = signer.export("alice")
    refused(document + b"ff  evil.img\n", None, keyring, "text outside the signed block, beginning with 'ff  evil.img'")
    refused(b"ff  evil.img\n" + document, None, keyring, "text outside the signed block, beginning with 'ff  evil.img'")
    refused(document + document, None, keyring, "text outside the signed block")


def test_text_in_the_headers(signer: Signer, backend: str) -> None:
    document = signer.sign("alice", how="--clearsign").replace(b"Hash:", b"ff  evil.img\nHash:")
    refused(document, None, signer.export("alice"), "a header other than Hash: 'ff  evil.img'")


def test_cut_short(signer: Signer, backend: str) -> None:
    document = signer.sign("alice", how="--clearsign")
    refused(document[: len(document) // 2], None, signer.export("alice"), "not complete")
    refused(LIST, signer.sign("alice")[:-1], signer.export("alice"), "ends too early")


def test_not_signed(signer: Signer, backend: str) -> None:
    refused(LIST, None, signer.export("alice"), "SHA256SUMS is not signed")


@pytest.mark.parametrize("signature", [b"", b"<html>404</html>", b"-----BEGIN PGP SIGNATURE-----\n\n$$\n"])
def test_not_a_signature(signer: Signer, backend: str, signature: bytes) -> None:
    refused(LIST, signature, signer.export("alice"), "the signature of SHA256SUMS is not an OpenPGP signature")


def test_a_key_is_not_a_signature(signer: Signer, backend: str) -> None:
    refused(LIST, signer.export("alice"), signer.export("alice"), "not an OpenPGP signature")


def test_signature_of_nonsense(signer: Signer, backend: str) -> None:
    refused(
        LIST, b"\x88\x04\x04\x00\x16\x08", signer.export("alice"), "the signature of SHA256SUMS cannot be checked: .+"
    )


def test_too_many_signatures(signer: Signer, backend: str) -> None:
    refused(LIST, signer.sign("alice") * (MAX_SIGNATURES + 1), signer.export("alice"), "17 signatures; at most 16")


@pytest.mark.parametrize(("algorithm", "name"), [("SHA1", "SHA-1"), ("RIPEMD160", "RIPEMD-160")])
def test_weak_hash(signer: Signer, backend: str, algorithm: str, name: str) -> None:
    signature = signer.sign("rsa", options=("--digest-algo", algorithm))
    refused(LIST, signature, signer.export("rsa"), f"the signature of SHA256SUMS is too weak: it is made with {name}")


@pytest.mark.parametrize(
    ("keyring", "message"),
    [
        (b"", "the keyring has no keys"),
        (b"my keys", "the keyring has no keys: .* found 'my keys'"),
        (b"\x99\x00", "the keyring cannot be read"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!\n-----END PGP PUBLIC KEY BLOCK-----\n", "cannot be read"),
    ],
)
def test_bad_keyring(signer: Signer, backend: str, keyring: bytes, message: str) -> None:
    refused(LIST, signer.sign("alice"), keyring, message)


def test_a_secret_key_is_no_keyring(signer: Signer, backend: str) -> None:
    refused(LIST, signer.sign("alice"), signer.gpg("--export-secret-keys", "alice@example.org"), "cannot be read")


# Where the two differ -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sha1bound", "oldsub", "renewed"])
def test_keys_that_sequoia_cannot_use(signer: Signer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Old upstreams sign with keys of the SHA-1 age, and every upstream moves its key's expiry; gpgv is asked then.
    signing = signer.fingerprints(name)[-1]
    signature = signer.gpg("--local-user", f"{signing}!", "--detach-sign", data=LIST)
    keyring = signer.export(name)
    if name == "renewed":
        with home() as other:
            other.gpg("--import", data=signer.gpg("--export-secret-keys", signing))
            other.gpg("--quick-set-expire", signing, "0", when="20240601T000000")
            # The old copy stays in the file: the last one counts.
            refused(LIST, signature, keyring, "has expired")
            keyring += other.export(name)
    assert verify(LIST, signature, keyring, what="SHA256SUMS") == LIST
    refused(LIST + b"x", signature, keyring, "altered")
    only("sequoia", monkeypatch)
    error = refused(LIST, signature, keyring, f"{name}@.*a key that Sequoia cannot use")
    assert error.hint is not None
    assert "gpgv" in error.hint


def test_a_renewed_key_signs_again(signer: Signer, backend: str) -> None:
    with home() as other:
        other.gpg("--import", data=signer.gpg("--export-secret-keys", "renewed@example.org"))
        other.gpg("--quick-set-expire", other.fingerprints("renewed")[0], "0", when="20240501T000000")
        later = ("--local-user", "renewed@example.org", "--detach-sign")
        signature, keyring = other.gpg(*later, data=LIST, when="20240601T000000"), other.export("renewed")
    assert verify(LIST, signature, signer.export("renewed") + keyring, what="SHA256SUMS") == LIST


def test_neither_is_there(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysequoia", None)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    error = refused(LIST, signer.sign("alice"), signer.export("alice"), "nothing here can verify it")
    assert error.hint is not None
    assert "larder-images[openpgp]" in error.hint
    assert "gpgv" in error.hint


def test_the_users_own_keys_do_not_count(signer: Signer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNUPGHOME", str(signer.home))
    refused(LIST, signer.sign("alice"), signer.export("bob"), "which the keyring does not hold")
