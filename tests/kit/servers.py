"""Servers for the tests, on loopback: one that misbehaves as it is told, a real nginx and a real docker-registry."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from .oracles import need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

#: Seconds after which a server that does not start, or does not stop, is broken.
DEADLINE = 20.0


class Exchange(BaseHTTPRequestHandler):
    """One request, and the means to answer it well or badly."""

    protocol_version = "HTTP/1.1"
    server: _HTTPServer
    #: Whether there is more of a streamed body than was read.
    partial = False

    def do_GET(self) -> None:
        #: The number of earlier requests.
        self.asked = len(self.server.seen)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._streamed(self.server.limits.pop(0) if self.server.limits else None)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen = Seen(self.path, dict(self.headers), self.command, body)
        self.server.seen.append(self.seen)
        try:
            self.server.behave(self)
        except ConnectionError:
            self.close_connection = True

    def _streamed(self, limit: int | None) -> bytes:
        """Read a chunked body (RFC 9112, 7.1), or the first `limit` bytes of it."""
        body = bytearray()
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
            if limit is not None and len(body) >= limit:
                self.partial = True
                return bytes(body[:limit])
        self.rfile.readline()
        return bytes(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def stopping(self) -> threading.Event:
        """Set when the server is told to stop: what hangs, hangs on this."""
        return self.server.stopping

    def start(self, status: int, headers: Mapping[str, object]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        if self.headers.get("Connection") == "close":
            # What servers say (RFC 9112, 9.6): without it a client may send its next request as we close.
            self.send_header("Connection", "close")
        self.end_headers()

    def reply(self, status: int = 200, body: bytes = b"", **headers: object) -> None:
        """Answer with status, headers (``_`` for ``-``) and body."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.start(status, {"Content-Length": len(body), **named})
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunk(self, data: bytes) -> None:
        """Send one chunk of a chunked body; an empty one ends it."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def cut(self) -> None:
        """Break the connection."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def file(self, data: bytes, *, etag: str | None = '"v1"', stop: int | None = None, **headers: object) -> None:
        """Answer as a good server with a file does, ranges and If-Range included; break off before byte `stop`."""
        start = 0
        if self.headers.get("Range") and self.headers.get("If-Range") in (None, etag, headers.get("Last_Modified")):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        named: dict[str, object] = {name.replace("_", "-"): value for name, value in headers.items()}
        if etag:
            named["ETag"] = etag
        if start >= len(data):
            self.start(416, {"Content-Length": 0, "Content-Range": f"bytes */{len(data)}"})
            return
        if start:
            named["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.start(206 if start else 200, {"Content-Length": len(data) - start, **named})
        self.wfile.write(data[start:stop])
        if stop is not None and stop < len(data):
            self.cut()


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    path: str
    headers: dict[str, str]
    method: str = "GET"
    body: bytes = b""

    @property
    def range(self) -> tuple[str | None, str | None]:
        return self.headers.get("Range"), self.headers.get("If-Range")


class _HTTPServer(ThreadingHTTPServer):
    # Joined when the server is closed, so that no socket outlives its test.
    daemon_threads = False

    def __init__(self, behave: Callable[[Exchange], None]) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.behave = behave
        self.seen: list[Seen] = []
        self.limits: list[int] = []
        self.stopping = threading.Event()


@dataclass
class Server:
    """The misbehaving server while it runs."""

    url: str
    port: int
    #: The requests so far.
    seen: list[Seen] = field(default_factory=list)
    #: How many bytes are read of each of the next streamed bodies.
    limits: list[int] = field(default_factory=list)


@contextmanager
def misbehaving(behave: Callable[[Exchange], None], *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server whose every request `behave` answers."""
    with _HTTPServer(behave) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.005})
        thread.start()
        try:
            scheme = "https" if tls else "http"
            yield Server(f"{scheme}://127.0.0.1:{server.server_port}", server.server_port, server.seen, server.limits)
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return the context of a TLS server on 127.0.0.1, and the certificate that clients must trust."""
    need("openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


_NGINX_CONFIG = """
daemon off;
pid {prefix}/nginx.pid;
{user}
error_log {prefix}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format larder '$status $body_bytes_sent $http_range $request_uri';
    access_log {prefix}/access.log larder;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    types {{ text/html html; application/octet-stream img raw qcow2; text/plain txt; }}
    default_type text/plain;
    {http}
    server {{
        listen 127.0.0.1:{port};
        root "{root}";
        {server}
    }}
}}
"""


class Nginx:
    """A real nginx in the foreground, with a prefix, configuration and port of its own."""

    def __init__(self, root: Path, prefix: Path, *, http: str, server: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        user = "user root;" if os.geteuid() == 0 else ""
        (prefix / "nginx.conf").write_text(
            _NGINX_CONFIG.format(prefix=prefix, root=root, port=self.port, http=http, server=server, user=user),
            encoding="utf-8",
        )

    def start(self) -> None:
        """Start it, and come back when it answers."""
        prefix = self._prefix
        self._process = subprocess.Popen(
            ["nginx", "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", str(prefix / "error.log")],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        )
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"nginx did not start: {(prefix / 'error.log').read_text()}") from None
                time.sleep(0.01)

    def stop(self) -> None:
        """Stop it, connections included; again is allowed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(DEADLINE)
            self._process = None

    def log(self) -> list[str]:
        """Stop it, so that the log is complete, and return ``status bytes range uri`` of each request."""
        self.stop()
        return (self._prefix / "access.log").read_text(encoding="utf-8").splitlines()


@contextmanager
def nginx(root: Path, prefix: Path, *, http: str = "", server: str = "") -> Iterator[Nginx]:
    """Serve `root` with a real nginx; `prefix` is an empty folder for what nginx writes.

    `http` and `server` are further directives for the blocks of these names.
    """
    need("nginx")
    running = Nginx(root, prefix, http=http, server=server)
    running.start()
    try:
        yield running
    finally:
        running.stop()


_REGISTRY_CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
  {tls}
{auth}
"""


@contextmanager
def docker_registry(
    folder: Path, *, htpasswd: Path | None = None, tls: tuple[Path, Path] | None = None
) -> Iterator[str]:
    """Run docker's own registry, which keeps all that it has in `folder`; hand out its HOST:PORT.

    `htpasswd` is the file of those who may use it, of bcrypt hashes; `tls` are a certificate and its key.
    """
    need("docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(exist_ok=True)
    config = folder / "config.yml"
    config.write_text(
        _REGISTRY_CONFIG.format(
            root=folder / "data",
            port=port,
            tls=f"tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else "",
            auth=f"auth: {{htpasswd: {{realm: tests, path: {htpasswd}}}}}" if htpasswd else "",
        ),
        encoding="utf-8",
    )
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"docker-registry did not start: {log.read_text()}") from None
                time.sleep(0.01)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE)
