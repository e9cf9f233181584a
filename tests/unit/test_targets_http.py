from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from audit_toolkit.errors import UsageError
from audit_toolkit.targets import http as targets_http
from audit_toolkit.targets.contract import Failed, TargetError
from audit_toolkit.targets.drive import drive
from audit_toolkit.targets.http import http_target, is_loopback
from audit_toolkit.targets.work import Pair, Sample


class Server:
    """A real server on loopback whose answer each test writes: ``reply(handler, body)``."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.reply: Callable[[Any, bytes], None] = lambda handler, body: None
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.seen.append((self.path, dict(self.headers), body))
                try:
                    outer.reply(self, body)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/match?v=1"

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def send(handler: Any, content: object, status: int = 200, **headers: str) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.close()


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    out = []
    for k in range(6):
        path = tmp_path / f"secret{k}.png"
        path.write_bytes(bytes([k, 255]))
        out.append(Sample(path, f"person{k // 2}", f"s{k}", {"g": "a" if k < 4 else "b"}))
    return out


@pytest.fixture
def pairs(samples: list[Sample]) -> list[Pair]:
    return [Pair(a, b) for i, a in enumerate(samples) for b in samples[i + 1 :]]


def contents(text: str) -> int:
    return base64.b64decode(text)[0]


def score(handler: Any, body: bytes) -> None:
    asked = json.loads(body)["pairs"]
    send(handler, {"answers": [10 * contents(p["reference"]) + contents(p["probe"]) for p in asked]})


def expected(pairs: list[Pair]) -> list[float]:
    return [10 * p.reference.image.read_bytes()[0] + p.probe.image.read_bytes()[0] for p in pairs]


def test_pairs_go_out_as_json(server: Server, pairs: list[Pair]) -> None:
    server.reply = score
    out = drive(http_target(server.url, does="compare"), pairs, batch=4)
    assert [r["score"] for r in out.rows()] == expected(pairs)
    path, headers, body = server.seen[0]
    assert path == "/match?v=1"
    assert headers["Content-Type"] == "application/json"
    assert b"secret" not in body
    assert b"person" not in body
    assert out.target["kind"] == "http"


def test_localhost_by_name(server: Server, pairs: list[Pair]) -> None:
    server.reply = score
    target = http_target(server.url.replace("127.0.0.1", "localhost"), does="compare")
    assert drive(target, pairs).overall.answered == len(pairs)


def test_templates_by_bytes_json_and_paths(server: Server, samples: list[Sample]) -> None:
    server.reply = lambda handler, body: send(handler, {"template": [body[0], 0.5]})
    vectors = drive(http_target(server.url, does="template", body="bytes"), samples).vectors()
    assert vectors.tolist() == [[k, 0.5] for k in range(6)]
    assert server.seen[0][1]["Content-Type"] == "application/octet-stream"
    server.reply = lambda handler, body: send(
        handler,
        {
            "answers": [
                {"failure": "fte"} if contents(i) == 2 else {"template": [contents(i)]}
                for i in json.loads(body)["images"]
            ]
        },
    )
    out = drive(http_target(server.url, does="template"), samples, batch=4)
    assert [isinstance(a, Failed) for a in out.answers] == [False, False, True, False, False, False]
    server.reply = lambda handler, body: send(
        handler, {"answers": [{"template": [Path(i).read_bytes()[0]]} for i in json.loads(body)["images"]]}
    )
    assert drive(http_target(server.url, does="template", body="paths"), samples).vectors()[:, 0].tolist() == [
        *range(6)
    ]


def test_errors_that_pass_are_asked_again(server: Server, pairs: list[Pair]) -> None:
    bad = [503, 429, 500]

    def sometimes(handler: Any, body: bytes) -> None:
        if bad:
            send(handler, {}, bad.pop())
        else:
            score(handler, body)

    server.reply = sometimes
    out = drive(http_target(server.url, does="compare"), pairs, batch=1, retries=3, backoff=0)
    assert [r["score"] for r in out.rows()] == expected(pairs)
    assert (out.overall.exit, out.overall.retries) == (3, 3)


def test_a_connection_that_breaks(server: Server, pairs: list[Pair]) -> None:
    def breaks(handler: Any, body: bytes) -> None:
        asked = json.loads(body)["pairs"]
        kind = {(0, 1): "cut", (0, 2): "short", (0, 3): "noise", (0, 4): "chunk"}
        how = [kind.get((contents(p["reference"]), contents(p["probe"]))) for p in asked]
        if "cut" in how:
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif "short" in how:
            send(handler, b'{"answers": [1]}', Content_Length="1000")
            handler.close_connection = True
        elif "noise" in how:
            handler.wfile.write(b"\x00\xff" * 100 + b"\r\n\r\n")
            handler.close_connection = True
        elif "chunk" in how:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
            handler.close_connection = True
        else:
            score(handler, body)

    server.reply = breaks
    out = drive(http_target(server.url, does="compare"), pairs, batch=4, retries=1, backoff=0, timeout=10)
    assert out.answers[:4] == (Failed("fta", "exit"),) * 4
    assert list(out.answers[4:]) == expected(pairs)[4:]


@pytest.mark.parametrize("drip", [False, True])
def test_a_slow_service(server: Server, pairs: list[Pair], drip: bool) -> None:
    def slow(handler: Any, body: bytes) -> None:
        if contents(json.loads(body)["pairs"][0]["probe"]) != 2:
            return score(handler, body)
        if drip:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(400):
            if server.over.wait(0.05):
                return None
            if drip:
                handler.wfile.write(b" ")
        return None

    server.reply = slow
    started = time.monotonic()
    out = drive(http_target(server.url, does="compare"), pairs[:3], batch=1, timeout=0.5, retries=1, backoff=0)
    assert out.answers == (1.0, Failed("fta", "timeout"), 3.0)
    assert (out.overall.timeout, out.overall.retries) == (2, 1)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_refused(server: Server, pairs: list[Pair], status: int) -> None:
    server.reply = lambda handler, body: send(handler, {}, status, Location="http://127.0.0.1:1/elsewhere")
    with pytest.raises(TargetError, match="redirects"):
        drive(http_target(server.url, does="compare"), pairs)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [201, 204, 400, 404, 422])
def test_other_statuses_stop(server: Server, pairs: list[Pair], status: int) -> None:
    server.reply = lambda handler, body: send(handler, b"", status)
    with pytest.raises(TargetError, match=f"HTTP {status}"):
        drive(http_target(server.url, does="compare"), pairs)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello secret",
        b"\xff\xfe",
        b"[0.5]",
        b"{}",
        b'{"answers": 0.5}',
        b'{"answers": {}}',
        b'{"answers": [0.5]}',
        b'{"answers": [NaN, NaN]}',
        b'{"answers": [0.5, null]}',
        b'{"answers": [0.5, 0.5, 0.5]}',
        b'{"answers": [0.5, "0.5"]}',
    ],
)
def test_garbage(server: Server, pairs: list[Pair], content: bytes) -> None:
    server.reply = lambda handler, body: send(handler, content)
    with pytest.raises(TargetError) as caught:
        drive(http_target(server.url, does="compare"), pairs[:2])
    assert "secret" not in str(caught.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("declared", [True, False])
def test_a_reply_that_is_too_long(server: Server, pairs: list[Pair], declared: bool) -> None:
    def long(handler: Any, body: bytes) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"Content-Length: 99999999\r\n" if declared else b"") + b"\r\n")
        for _ in range(10_000):
            handler.wfile.write(b" " * 10_000)

    server.reply = long
    with pytest.raises(TargetError, match="longer than 5000 bytes"):
        drive(http_target(server.url, does="compare", most_reply=5000), pairs[:2], timeout=10)


def test_nobody_listens(pairs: list[Pair]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(TargetError, match="connection broke off"):
            drive(http_target(url, does="compare"), pairs, batch=1, retries=0, give_up_after=3)


def test_proxies_of_the_environment_are_not_used(
    server: Server, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.reply = score
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert drive(http_target(server.url, does="compare"), pairs).overall.answered == len(pairs)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "http://10.0.0.1/",
        "http://192.168.1.1:8000/x",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::1%25lo]/",
        "http://[fe80::1]/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://localhost.example.org/",
        "http://127.0.0.1.example.org/",
        "http://127.0.0.1@example.org/",
        "http://example.org\\@127.0.0.1/",
        "http://user:word@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x/",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nHost: x",
        "http://[::1/",
        "https://127.0.0.1/",
        "ftp://127.0.0.1/",
        "file:///etc/hosts",
        "unix:/tmp/socket",
        "127.0.0.1:8000",
        "http:///path",
        "",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        http_target(url, does="compare")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://127.3.2.1:80/x", "http://[::1]:8080/", "http://LOCALHOST:1/"]
)
def test_addresses_that_are_taken(url: str) -> None:
    assert http_target(url, does="template").kind == "http"


def test_localhost_that_leads_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(address: str) -> tuple[object, ...]:
        return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))

    for found in (["10.0.0.7"], ["127.0.0.1", "10.0.0.7"], []):
        monkeypatch.setattr(targets_http.socket, "getaddrinfo", lambda *_, f=found, **__: [entry(a) for a in f])
        with pytest.raises(UsageError, match="loopback"):
            http_target("http://localhost/", does="compare")

    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(targets_http.socket, "getaddrinfo", fails)
    with pytest.raises(UsageError, match="no address"):
        http_target("http://localhost/", does="compare")


def test_is_loopback() -> None:
    assert all(is_loopback(a) for a in ("127.0.0.1", "127.255.255.254", "::1"))
    elsewhere = ("128.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "::1%lo", "localhost", "")  # noqa: S104
    assert not any(is_loopback(a) for a in elsewhere)


def test_calls_that_cannot_be_meant() -> None:
    for options in ({"does": "compare", "body": "bytes"}, {"does": "train"}, {"does": "compare", "body": "form"}):
        with pytest.raises(UsageError):
            http_target("http://127.0.0.1/", **options)  # type: ignore[arg-type]


def test_an_image_that_went_away(server: Server, samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    def loses(handler: Any, body: bytes) -> None:
        samples[5].image.unlink(missing_ok=True)
        send(handler, {"template": [1.0]})

    server.reply = loses
    target = http_target(server.url, does="template", body="bytes")
    with pytest.raises(TargetError, match="cannot be read") as caught:
        drive(target, samples)
    assert "secret" not in str(caught.value)
    monkeypatch.setattr(targets_http, "MOST_IMAGE", 1)
    with pytest.raises(TargetError, match="larger than 1 bytes"):
        drive(target, samples[:2])
