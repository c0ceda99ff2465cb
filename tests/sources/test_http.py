"""The policy of all requests: redirects, credentials, proxies, TLS; and documents that are fetched whole."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from recipes.errors import FetchError
from recipes.sources import failures, pages, retry
from recipes.sources.pages import NotModified, Page, Validators
from tests.kit.servers import Exchange, misbehaving, self_signed
from tests.kit.watch import Watch

if TYPE_CHECKING:
    import ssl

LIST = b"0123abcd *disk.img\n"
BASIC = f"Basic {base64.b64encode(b'me:secret').decode()}"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _quick_and_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(retry, "BACKOFF", 0.005)
    for name in (*PROXIES, "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def get(url: str, *more: str, validators: Validators | None = None, watch: Watch | None = None) -> Page | NotModified:
    return pages.get([url, *more], label="SHA256SUMS", offline=False, validators=validators, progress=watch or Watch())


def content(url: str) -> bytes:
    page = get(url)
    assert isinstance(page, Page)
    return page.content


def ok(exchange: Exchange) -> None:
    exchange.reply(body=LIST)


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_are_followed(self, status: int) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.reply(status, Location="/there") if exchange.path == "/here" else ok(exchange)

        with misbehaving(behave) as server:
            assert content(f"{server.url}/here") == LIST

    def test_a_loop_ends(self) -> None:
        with (
            misbehaving(lambda exchange: exchange.reply(302, Location=f"/{exchange.asked}")) as server,
            pytest.raises(FetchError, match="more than 10 redirects"),
        ):
            get(server.url)
        assert len(server.seen) == failures.MAX_REDIRECTS + 1

    @pytest.mark.parametrize("chunked", [True, False])
    def test_the_body_of_one_is_not_read(self, chunked: bool) -> None:
        def behave(exchange: Exchange) -> None:
            if exchange.path == "/there":
                ok(exchange)
                return
            exchange.start(302, {"Location": "/there", **({"Transfer-Encoding": "chunked"} if chunked else {})})
            while not exchange.stopping.is_set():
                exchange.chunk(bytes(1 << 16))

        with misbehaving(behave) as server:
            assert content(f"{server.url}/here") == LIST

    @pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://me:secret@example.org/a", "gopher:"])
    def test_to_other_schemes_are_refused(self, target: str) -> None:
        with (
            misbehaving(lambda exchange: exchange.reply(302, Location=target)) as server,
            pytest.raises(FetchError, match="refused to follow a redirect to") as caught,
        ):
            get(server.url)
        assert "secret" not in str(caught.value)
        assert len(server.seen) == 1

    @pytest.mark.parametrize(
        "target", ["http://[::1/a", "http://a..b/", f"http://{'x' * 300}.example/", "http://:0:0/"]
    )
    def test_to_what_is_no_url_are_refused(self, target: str) -> None:
        with misbehaving(lambda exchange: exchange.reply(302, Location=target)) as server, pytest.raises(FetchError):
            get(server.url)

    def test_without_a_target_are_a_status(self) -> None:
        with misbehaving(lambda exchange: exchange.reply(302)) as server, pytest.raises(FetchError, match="302 Found"):
            get(server.url)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


class TestTls:
    def test_a_trusted_certificate(self, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        context, certificate = tls
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with misbehaving(ok, tls=context) as server:
            assert content(server.url) == LIST

    def test_an_untrusted_certificate_is_final(self, tls: tuple[ssl.SSLContext, Path]) -> None:
        with (
            misbehaving(ok, tls=tls[0]) as server,
            pytest.raises(FetchError, match="certificate was refused") as caught,
        ):
            get(server.url)
        assert "attempts" not in str(caught.value)
        assert caught.value.hint is not None
        assert "REQUESTS_CA_BUNDLE" in caught.value.hint

    def test_a_redirect_to_http_is_refused(
        self, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context, certificate = tls
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with misbehaving(ok) as plain:
            target = f"{plain.url}/there".replace("//", "//me:secret@")
            with (
                misbehaving(lambda exchange: exchange.reply(302, Location=target), tls=context) as server,
                pytest.raises(FetchError) as caught,
            ):
                get(server.url)
        assert f"refused to follow a redirect to '{plain.url}/there': only https is expected" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert len(server.seen) == 1
        assert plain.seen == []

    def test_a_redirect_to_https_is_followed(
        self, tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context, certificate = tls
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with (
            misbehaving(ok, tls=context) as server,
            misbehaving(lambda exchange: exchange.reply(302, Location=server.url)) as plain,
        ):
            assert content(plain.url) == LIST

    def test_tls_where_there_is_none(self) -> None:
        def behave(exchange: Exchange) -> None:
            raise AssertionError("no request can be read")

        with misbehaving(behave) as server, pytest.raises(FetchError, match=r"\(5 attempts\)"):
            get(server.url.replace("http:", "https:"))


class TestCredentials:
    @staticmethod
    def redirecting(exchange: Exchange) -> None:
        if exchange.path == "/here":
            exchange.reply(302, Location=f"http://localhost:{exchange.server.server_port}/there")
        elif exchange.path == "/moved":
            exchange.reply(302, Location="/there")
        else:
            ok(exchange)

    def test_of_the_url_are_sent(self) -> None:
        with misbehaving(ok) as server:
            get(server.url.replace("//", "//me:secret@"))
        assert server.seen[0].headers["Authorization"] == BASIC

    def test_of_the_url_stay_with_the_host(self) -> None:
        with misbehaving(self.redirecting) as server:
            get(server.url.replace("//", "//me:secret@") + "/moved")
            get(server.url.replace("//", "//me:secret@") + "/here")
        same_host, other_host = server.seen[1], server.seen[3]
        assert same_host.headers["Authorization"] == BASIC
        assert "Authorization" not in other_host.headers

    def test_of_netrc_are_sent_to_their_host_only(self, tmp_path: Path) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
        (tmp_path / "netrc").chmod(0o600)
        with misbehaving(self.redirecting) as server:
            get(f"{server.url}/here")
        assert server.seen[0].headers["Authorization"] == BASIC
        assert "Authorization" not in server.seen[1].headers

    @pytest.mark.parametrize("status", [401, 403])
    def test_where_they_are_missing_the_hint_says_how(self, status: int) -> None:
        with misbehaving(lambda exchange: exchange.reply(status)) as server, pytest.raises(FetchError) as caught:
            get(server.url)
        assert caught.value.hint == "credentials are taken from ~/.netrc (or the file that NETRC names)"

    def refused(self, url: str, status: int = 401) -> str:
        """Return the hint after those for `url`, with HOST in place of a server's host, were refused."""
        with misbehaving(lambda exchange: exchange.reply(status)) as server, pytest.raises(FetchError) as caught:
            get(url.replace("HOST", f"127.0.0.1:{server.port}"))
        assert "Authorization" in server.seen[0].headers
        assert "secret" not in str(caught.value)
        return caught.value.hint or ""

    @pytest.mark.parametrize("status", [401, 403])
    def test_that_those_of_the_url_were_refused_is_said(self, status: int) -> None:
        assert self.refused("http://me:secret@HOST", status).startswith("the login in the url was refused; ")

    @pytest.mark.parametrize("url", ["http://HOST/list", "http://me:other@HOST/list"])
    def test_the_file_whose_login_was_refused_is_named(self, url: str, tmp_path: Path) -> None:
        """requests lets ~/.netrc go before the url."""
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
        (tmp_path / "netrc").chmod(0o600)
        assert self.refused(url).startswith(f"the login in {tmp_path / 'netrc'} was refused; ")

    @pytest.mark.parametrize("name", [".netrc", "_netrc"])
    def test_also_where_it_has_its_usual_name(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("NETRC")
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / name).write_text("machine 127.0.0.1 login me password secret\n")
        (tmp_path / name).chmod(0o600)
        assert self.refused("http://HOST").startswith(f"the login in {tmp_path / name} was refused; ")


class TestProxies:
    def test_are_taken_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with misbehaving(ok) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            assert content("http://images.invalid/SHA256SUMS") == LIST
        assert [seen.path for seen in proxy.seen] == ["http://images.invalid/SHA256SUMS"]

    def test_no_proxy_is_heeded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with misbehaving(ok) as server:
            monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            assert content(server.url) == LIST

    def test_the_password_of_one_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:1")
        with pytest.raises(FetchError) as caught:
            get("http://images.invalid/SHA256SUMS")
        assert "secret" not in str(caught.value)


def test_requests_is_not_loaded_until_something_is_fetched() -> None:
    code = "import sys, recipes.sources.download, recipes.sources.pages; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert not {"requests", "urllib3"} & set(done.stdout.split())
    assert "recipes.sources.http" in done.stdout.split()
