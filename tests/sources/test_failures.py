from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import BadStatusLine, IncompleteRead
from typing import TYPE_CHECKING

import pytest
import requests
import urllib3

from recipes.errors import DigestMismatch, FetchError, OfflineError
from recipes.sources.failures import blaming, cause_of, login_of, redirection, refusal, translated
from recipes.sources.retry import ATTEMPTS, Elsewhere, Retryable, Unreachable, Unresolved

if TYPE_CHECKING:
    from pathlib import Path

ASKED = "http://front.test/disk.img"
MIRROR = "http://mirror.test/disk.img"
POOL = urllib3.HTTPConnectionPool("mirror.test")
CUT = urllib3.exceptions.ProtocolError("x", IncompleteRead(b""))


class TestRefusals:
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_of_a_server_that_is_busy_may_pass(self, status: int) -> None:
        assert isinstance(refusal(status, {}), Retryable)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 410, 416, 451, 501, 505])
    def test_of_the_request_will_not(self, status: int) -> None:
        assert type(refusal(status, {})) is FetchError

    def test_say_what_the_server_says(self) -> None:
        assert refusal(404, {}).message == "404 Not Found"
        assert refusal(404, {}, said="no such tag").message == "404 Not Found: no such tag"
        assert refusal(799, {}).message == "799 (not a registered status)"

    @pytest.mark.parametrize(
        ("text", "seconds"), [("", None), ("7", 7.0), ("-1", None), ("soon", None), ("9" * 400, float("inf"))]
    )
    def test_how_long_to_wait(self, text: str, seconds: float | None) -> None:
        error = refusal(503, {"Retry-After": text})
        assert isinstance(error, Retryable)
        assert error.retry_after == seconds

    def test_until_when_to_wait(self) -> None:
        def seconds(when: datetime) -> float:
            error = refusal(503, {"Retry-After": format_datetime(when)})
            assert isinstance(error, Retryable)
            assert error.retry_after is not None
            return error.retry_after

        assert 0 < seconds(datetime.now(UTC) + timedelta(hours=1)) <= 3600
        assert seconds(datetime.now(UTC) - timedelta(hours=1)) == 0

    def test_a_hint_of_the_caller_goes_before_ours(self) -> None:
        assert refusal(401, {}, hint="ask them", login="the url").hint == "ask them"
        assert "the login in the url was refused" in (refusal(401, {}, login="the url").hint or "")
        assert refusal(404, {}, login="the url").hint is None


class TestLogins:
    def prepared(self, url: str, **headers: str) -> requests.PreparedRequest:
        with requests.Session() as session:
            return session.prepare_request(requests.Request("GET", url, headers=headers))

    @pytest.fixture(autouse=True)
    def netrc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "logins"
        path.write_text("machine known.test login me password secret\n")
        path.chmod(0o600)
        monkeypatch.setenv("NETRC", str(path))
        return path

    def test_there_was_none(self) -> None:
        assert login_of(self.prepared("http://other.test/")) is None

    def test_of_the_url(self) -> None:
        assert login_of(self.prepared("http://me:secret@other.test/")) == "the url"

    def test_of_the_file(self, netrc: Path) -> None:
        assert login_of(self.prepared("http://known.test/")) == str(netrc)


@pytest.mark.parametrize(
    ("asked", "answered", "elsewhere"),
    [
        (ASKED, ASKED, False),
        (ASKED, "http://front.test/other", False),
        (ASKED, "https://front.test/disk.img", False),
        (ASKED, "http://me:secret@FRONT.test/disk.img", False),
        (ASKED, MIRROR, True),
        (ASKED, "http://front.test:8080/disk.img", True),
    ],
)
def test_a_redirection_is_to_another_host(asked: str, answered: str, elsewhere: bool) -> None:
    assert redirection(asked, answered) == (answered if elsewhere else None)


class TestBlaming:
    def raised(self, error: Exception, redirected: str | None = MIRROR) -> Exception:
        with pytest.raises(type(error) if redirected is None else Exception) as caught, blaming(redirected):
            raise error
        return caught.value

    def test_nobody_without_a_redirection(self) -> None:
        error = FetchError("no")
        assert self.raised(error, None) is error
        assert error.redirected is None

    def test_what_is_final_for_one_mirror_is_not_for_all(self) -> None:
        found = self.raised(FetchError("an HTML page", hint="look"))
        assert isinstance(found, Elsewhere)
        assert (found.message, found.hint, found.redirected) == ("an HTML page", "look", MIRROR)

    @pytest.mark.parametrize("kind", [Retryable, Unreachable, DigestMismatch, OfflineError])
    def test_what_is_more_than_that_stays_what_it_is(self, kind: type[FetchError]) -> None:
        error = kind("no")
        assert self.raised(error) is error
        assert error.redirected == MIRROR

    def test_who_is_nearer_is_to_blame(self) -> None:
        error = FetchError("no")
        error.redirected = "http://third.test/"
        assert self.raised(error) is error
        assert error.redirected == "http://third.test/"

    def test_others_are_let_through(self) -> None:
        error = ValueError("no")
        assert self.raised(error) is error


class TestTranslations:
    def of(self, error: Exception, answering: str | None = None) -> FetchError:
        with pytest.raises(FetchError) as caught, translated(ASKED, (10, 60), answering=answering):
            raise error
        assert caught.value.__cause__ is error
        return caught.value

    def test_who_could_not_be_asked_is_named(self) -> None:
        request = requests.Request("GET", MIRROR).prepare()
        unconnected = urllib3.exceptions.NewConnectionError(urllib3.connection.HTTPConnection("mirror.test"), "refused")
        gave_up = urllib3.exceptions.MaxRetryError(POOL, "/", unconnected)
        found = self.of(requests.ConnectionError(gave_up, request=request))
        assert isinstance(found, Unreachable)
        assert found.redirected == MIRROR
        assert self.of(requests.ConnectTimeout(request=request)).message == "no connection within 10 s"
        assert self.of(requests.ConnectTimeout()).redirected is None

    def test_who_answers_is_named(self) -> None:
        found = self.of(urllib3.exceptions.ReadTimeoutError(POOL, "", "late"), MIRROR)
        assert type(found) is Retryable
        assert (found.message, found.redirected) == ("nothing arrived for 60 s", MIRROR)

    def test_a_connection_that_broke_is_not_one_that_is_missing(self) -> None:
        assert type(self.of(requests.ConnectionError(ConnectionResetError(104, "Connection reset")))) is Retryable

    @pytest.mark.parametrize(
        "error",
        [
            requests.TooManyRedirects(),
            requests.exceptions.InvalidURL("no host"),
            requests.exceptions.InvalidSchema("no adapters"),
            urllib3.exceptions.LocationParseError("x"),
            ValueError("idna"),
            requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_will_not_change_is_final(self, error: Exception) -> None:
        assert type(self.of(error)) is FetchError

    def test_no_password_is_told(self) -> None:
        found = self.of(requests.exceptions.InvalidURL("no host in http://me:sesame@"))
        assert "sesame" not in found.message


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            requests.ConnectionError(urllib3.exceptions.ProtocolError("x", IncompleteRead(b""))),
            "the connection was cut",
        ),
        (requests.ConnectionError(BadStatusLine("SSH-2.0")), "expected an answer in HTTP, got 'SSH-2.0'"),
        (OSError(111, "Connection refused"), "connection refused"),
        (requests.ConnectionError(socket.gaierror(-2, "Name or service not known")), "name or service not known"),
        (ConnectionError(), "connectionError"),
    ],
    ids=["cut", "no http", "refused", "no name", "nothing said"],
)
def test_the_innermost_cause_is_told(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause


def test_a_name_that_is_not_resolved_is_for_want_of_a_network() -> None:
    # RFC 6761, 6.4: nobody has this domain.
    url = "http://images.invalid/a.img"
    with pytest.raises(Unresolved) as caught, translated(url, (1, 1)):
        requests.get(url, timeout=1, proxies={"http": ""})
    assert caught.value.message.startswith("the name of the host cannot be resolved: ")
    assert "raw:demo" in (caught.value.hint or "")
    assert caught.value.attempts < ATTEMPTS
