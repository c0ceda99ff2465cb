"""Requests to registries: manifests and blobs, and the tokens that registries ask for. What is sent is in `uploads`.

OCI distribution-spec 1.1 ("Pulling manifests", "Pulling blobs", "Error Codes"); the tokens are those of the
distribution project's "Token Authentication Specification" and "Oauth2 Token Authentication".
"""

from __future__ import annotations

import ipaddress
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list

from recipes import jsontext
from recipes.errors import DigestMismatch, FetchError
from recipes.formats.io import digests
from recipes.formats.oci.spec import INDEXES, JSON_LIMIT, MANIFESTS
from recipes.model import Digest
from recipes.redact import shown
from recipes.reference import DOCKER_HUB, Reference

from . import credentials
from .failures import refusal
from .http import Client
from .retry import Retryable, first_of
from .urls import join, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from recipes.progress import Progress

    from .credentials import Login
    from .http import Answer, Body, Method

#: Where the registry behind `DOCKER_HUB` is.
_HUB = "registry-1.docker.io"

_ACCEPT = ", ".join(sorted(MANIFESTS | INDEXES))
_ANY = range(100, 600)
#: Most characters of what a registry says of an error that are shown, and most bytes of a token.
_SAID = 200
_MAX_TOKEN = 1 << 20


class Registry:
    """Requests to registries, as somebody whom they know where `docker login` was. For one thread.

    `plain` are the hosts that are declared to speak http; `push` asks for the right to push as well; `timeouts` are
    those of `Client`.

    Errors of all methods are those of `Client.open`, for `retry.first_of` to complete; a url or a digest that cannot
    be used is a FetchError.
    """

    def __init__(
        self,
        *,
        offline: bool,
        plain: Collection[str] = (),
        push: bool = False,
        timeouts: tuple[float, float] | None = None,
    ) -> None:
        self._client = Client(offline=offline, timeouts=timeouts)
        self._declared = frozenset(plain)
        self._push = push
        #: Authorization by host and name of the repository.
        self._authorizations: dict[tuple[str, str], str] = {}
        #: Why the credentials for a host could not be had.
        self._problems: dict[str, str] = {}
        #: Where the credentials that were sent to a host are stored.
        self._places: dict[str, str] = {}
        self._plain: set[str] = set(plain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()

    def manifest(self, reference: Reference) -> bytes:
        """Return the manifest or index, verified by the digest where `reference` has one."""
        with self.ask("GET", reference, manifest_of(reference), {"Accept": _ACCEPT}) as answer:
            return self._manifest(reference, answer)

    def find(self, reference: Reference) -> bytes | None:
        """Return the manifest or index as `manifest` does; None where the registry has none."""
        accept = (HTTPStatus.OK, HTTPStatus.NOT_FOUND)
        with self.ask("GET", reference, manifest_of(reference), {"Accept": _ACCEPT}, accept=accept) as answer:
            return self._manifest(reference, answer) if answer.status == HTTPStatus.OK else None

    def _manifest(self, reference: Reference, answer: Answer) -> bytes:
        data = _whole(answer, JSON_LIMIT)
        expected = reference.digest or _announced(answer)
        if expected is not None and (found := digests.of_bytes(data, expected.algorithm)) != expected:
            raise DigestMismatch(
                f"a manifest with the wrong digest: expected {expected}, got {found}",
                hint="the registry, or what is in between, altered it; nothing of it was kept",
            )
        return data

    def digest(self, reference: Reference) -> Digest | None:
        """Return the digest of what the tag names now, None where the registry does not tell without sending it.

        A HEAD, which Docker Hub does not count as a pull (docs.docker.com, "Docker Hub pull usage and limits").
        """
        # What went wrong is in the body, so it is left to a GET to find out.
        accept = (HTTPStatus.OK, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
        headers = {"Accept": _ACCEPT}
        with self.ask("HEAD", reference, manifest_of(reference), headers, accept=accept) as answer:
            return _announced(answer) if answer.status == HTTPStatus.OK else None

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, accept: Collection[int] = (HTTPStatus.OK,)
    ) -> Iterator[Answer]:
        """GET the blob ``oci://HOST/NAME@DIGEST``; `headers` and `accept` are those of `Client.open`."""
        blob = reference(url)
        with self.ask("GET", blob, f"blobs/{blob.digest}", headers, accept=accept) as answer:
            yield answer

    @contextmanager
    def ask(
        self,
        method: Method,
        reference: Reference,
        what: str,
        headers: Mapping[str, str] | None = None,
        *,
        accept: Collection[int] = (HTTPStatus.OK,),
        data: Body | None = None,
    ) -> Iterator[Answer]:
        """Send a request about the repository of `reference`, and hand out the answer, whose status is in `accept`.

        `what` is the url from that of the repository on, or a Location that the registry gave; `data` is the body. One
        that is streamed is not sent again with a newer token: that it is wanted is a `Retryable` then.
        """
        url = join(self.url_of(reference), what)
        ours = _origin(self.url_of(reference))
        key = (reference.host, reference.name)
        for renewed in (False, True):
            known = self._authorizations.get(key) if _origin(url) == ours else None
            sent = {**(headers or {}), "Authorization": known} if known else headers
            with self._client.open(url, sent, method=method, accept=_ANY, data=data) as answer:
                if answer.status in accept:
                    yield answer
                    return
                # What a redirect or a Location led to has no claim to the credentials for the registry.
                if answer.status != HTTPStatus.UNAUTHORIZED or renewed or _origin(answer.url) != ours:
                    raise self._refusal(reference.host, answer)
                challenges = _challenges(answer.headers.get("WWW-Authenticate", ""))
                authorization = self._authorization(reference, challenges)
                if authorization is None:
                    raise self._refusal(reference.host, answer)
            self._authorizations[key] = authorization
            if not isinstance(data, bytes | None):
                raise Retryable("the registry wanted a new token")

    def url_of(self, reference: Reference) -> str:
        """Return where the repository of `reference` is, with a slash at its end."""
        return f"{self._base(reference.host)}/v2/{reference.name}/"

    def _base(self, host: str) -> str:
        """Return the beginning of all urls of the registry: https, unless it is declared or found to speak http.

        It is found out of this very machine only, without credentials. http is tried first there: to a registry that
        speaks TLS it is a bad request, whereas one that does not may wait for the rest of a handshake.
        """
        name = _HUB if host == DOCKER_HUB else host
        if host not in self._plain and is_loopback(host):
            # What fails now will fail again, with https, where it is reported.
            with suppress(Retryable), self._client.open(f"http://{name}/v2/", accept=_ANY) as answer:
                if answer.status != HTTPStatus.BAD_REQUEST and answer.url.startswith("http:"):
                    self._plain.add(host)
        return f"http://{name}" if host in self._plain else f"https://{name}"

    def _authorization(self, reference: Reference, challenges: dict[str, dict[str, str]]) -> str | None:
        """Return what answers one of the challenges, None where there is nothing that would."""
        login = self._login(reference.host)
        if "bearer" in challenges:
            return f"Bearer {self._token(reference, challenges['bearer'], login)}"
        if "basic" in challenges and login and login.username:
            return login.basic()
        return None

    def _login(self, host: str) -> Login | None:
        try:
            login = credentials.find(host)
        except credentials.CredentialError as error:
            # Most images need none, and a config.json that came from another machine often names a helper of that.
            self._problems[host] = error.message
            return None
        if login is not None:
            self._places[host] = login.place
        return login

    def _token(self, reference: Reference, challenge: Mapping[str, str], login: Login | None) -> str:
        """Get a token from the server that the challenge names; an anonymous one where nobody is logged in."""
        realm = split(challenge.get("realm", ""))
        unsafe = realm.netloc not in self._declared and not is_loopback(realm.netloc)
        if realm.scheme != "https" and not (realm.scheme == "http" and not unsafe):
            raise FetchError(f"expected the https url of a token server, got {shown(challenge.get('realm', ''))!r}")
        scope = challenge.get("scope") or f"repository:{reference.name}:pull"
        if self._push:
            # One token for all of a push, which begins with a look at what is there.
            scope = f"repository:{reference.name}:pull,push"
        service = challenge.get("service", "")
        if login and login.identity_token:
            asked = self._client.open(
                realm.geturl(),
                accept=_ANY,
                method="POST",
                form={
                    "grant_type": "refresh_token",
                    "service": service,
                    "client_id": "larder",
                    "scope": scope,
                    "refresh_token": login.identity_token,
                },
            )
        else:
            query = urlencode([("service", service), *(("scope", each) for each in scope.split())])
            url = realm._replace(query=f"{realm.query}&{query}" if realm.query else query).geturl()
            asked = self._client.open(url, {"Authorization": login.basic()} if login else {}, accept=_ANY)
        with asked as answer:
            if answer.status != HTTPStatus.OK:
                raise self._refusal(reference.host, answer, f"the token server {realm.netloc}: ")
            with suppress(ValueError, AttributeError):
                document = jsontext.loads(_whole(answer, _MAX_TOKEN))
                token = document.get("token") or document.get("access_token")
                if isinstance(token, str):
                    return token
        raise FetchError(f"the token server {realm.netloc} answered without a token")

    def _refusal(self, host: str, answer: Answer, server: str = "") -> FetchError:
        hint = None
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            hint = f"`docker login {host}`, "
            if place := self._places.get(host):
                # Expired, or of somebody who may not: what is stored is not what it takes.
                hint = f"the login that is stored in {place} was refused: {hint}"
            if self._push:
                hint += "as somebody who may push there"
            else:
                hint += "or there is no such image: registries do not tell strangers which"
            if problem := self._problems.get(host):
                hint += f"; there may be credentials for it, but {problem}"
        elif answer.status == HTTPStatus.NOT_FOUND:
            hint = "the image, or this tag or digest of it, does not exist, or not any more"
            if self._push:
                hint = "some registries want a project or repository to be made before anything is pushed to it"
        elif answer.status == HTTPStatus.METHOD_NOT_ALLOWED and self._push:
            hint = "the registry takes nothing: it is read-only, or a proxy for another one"
        elif answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            hint = f"registries allow more to those they know: `docker login {host}`"
        said = server + said_of(answer)
        return refusal(answer.status, answer.headers, said=said.removesuffix(": "), hint=hint)


def latest(urls: Sequence[str], *, known: bytes | None, label: str, offline: bool, progress: Progress) -> bytes | None:
    """Return the manifest or index that the tag in `urls` names now; None where it is `known` still.

    Errors: FetchError, with every url's failure; DigestMismatch; OfflineError.
    """

    def attempt(url: str) -> bytes | None:
        tag = reference(url)
        if known is not None and (now := registry.digest(tag)) and now == digests.of_bytes(known, now.algorithm):
            return None
        return registry.manifest(tag)

    with Registry(offline=offline) as registry, progress.meter(label) as meter:
        return first_of(urls, attempt, label=label, progress=progress, tick=lambda: meter.advance(0))


def manifest_of(reference: Reference) -> str:
    """Return the url of what `reference` names, from that of its repository on."""
    return f"manifests/{reference.digest or reference.tag}"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of `url`, whether or not it spells the port out."""
    parts = split(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(netloc: str) -> bool:
    """Say whether HOST or HOST:PORT is this machine, whatever the name service says."""
    host = urlsplit(f"//{netloc}").hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def reference(url: str) -> Reference:
    """Read an ``oci://`` url; raise FetchError where it is none."""
    try:
        return Reference.parse(url)
    except ValueError as error:
        # What a mirror's prefix made of it.
        raise FetchError(str(error)) from error


def _announced(answer: Answer) -> Digest | None:
    """Return the digest in the header Docker-Content-Digest, which is optional."""
    with suppress(ValueError):
        return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
    return None


def _whole(answer: Answer, limit: int) -> bytes:
    data = bytearray()
    for piece in answer.body():
        data += piece
        if len(data) > limit:
            raise FetchError(f"the answer is longer than {limit} bytes, the limit for such a document")
    return bytes(data)


def said_of(answer: Answer) -> str:
    """Return what the registry says of an error (distribution-spec, "Error Codes"), in one line that may be empty."""
    said: list[Any] = []
    with suppress(FetchError, ValueError, AttributeError, TypeError, LookupError):
        document = jsontext.loads(_whole(answer, JSON_LIMIT))
        # The token server of Docker Hub has its own form.
        error = document["errors"][0] if "errors" in document else {"message": document["details"]}
        said = [error.get("code"), error.get("message")]
    text = ": ".join(each for each in said if isinstance(each, str) and each)
    return "".join(each if each.isprintable() else " " for each in text)[:_SAID]


def _challenges(header: str) -> dict[str, dict[str, str]]:
    """Return the parameters of each challenge in WWW-Authenticate, by its scheme in lower case (RFC 9110, 11.6.1)."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for item in parse_http_list(header):
        name, equals, value = item.partition("=")
        scheme, _, key = name.strip().rpartition(" ")
        if not equals:
            scheme, key = item.strip(), ""
        if scheme:
            current = found.setdefault(scheme.lower(), {})
        if key:
            current[key.lower()] = value.strip().strip('"')
    return found
