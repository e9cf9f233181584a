"""A system under test that is a service on this very machine, asked by HTTP.

Why loopback only: images of people go out with every question, and nothing in an audit may send them to another machine.

Promises: the address must be of 127.0.0.0/8 or ::1, written as such or as "localhost"; it is looked up once, every address
found is checked, and the checked address is the one that is called. Redirects are refused, proxies of the environment are
not read, the reply is read up to a limit, and a call ends when its time is over, however slowly the service drips.
What it does not promise: it cannot see whether the service passes the images on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from audit_toolkit.errors import UsageError
from audit_toolkit.targets.contract import Does, Target, TargetError, Unanswered, read_json, unreadable

MOST_REPLY = 64 * 2**20
"""Bytes of one reply."""
MOST_IMAGE = 64 * 2**20
"""Bytes of one image."""
Body = Literal["json", "paths", "bytes"]

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_MEND = "Run the service on this machine and give http://127.0.0.1:PORT/PATH."
_ASK_AGAIN = frozenset({408, 425, 429})


def http_target(url: str, *, does: Does, body: Body = "json", name: str = "", most_reply: int = MOST_REPLY) -> Target:
    """A target from the URL of a service on loopback; every call is one POST, every reply one JSON document.

    ``body="json"``: ``{"images": [base64, ...]}`` or ``{"pairs": [{"reference": base64, "probe": base64}, ...]}``;
    ``body="paths"``: the same with absolute paths in place of contents, for a service that reads this machine's files;
    ``body="bytes"`` (templates only): one image's bytes a call. The reply is ``{"answers": [answer, ...]}``, or for
    ``"bytes"`` a single answer. Raises `UsageError` for any address that is not loopback, for https, and for user names or
    passwords in the URL.
    """
    if does not in ("compare", "template") or body not in ("json", "paths", "bytes"):
        raise UsageError("A service does compare or template, with a body of json, paths or bytes.")
    if does == "compare" and body == "bytes":
        raise UsageError("A comparison needs two images, which one plain body cannot hold.", mend='Use body="json".')
    service = _service(url, most_reply)

    def ask(items: Sequence[Any], seconds: float) -> object:
        if body == "bytes":
            return [read_json(_post(service, _contents(items[0]), "application/octet-stream", seconds))]
        show = _encoded if body == "json" else lambda path: str(path.absolute())
        asked: dict[str, list[Any]]
        if does == "template":
            asked = {"images": [show(path) for path in items]}
        else:
            asked = {"pairs": [{"reference": show(r), "probe": show(p)} for r, p in items]}
        said = read_json(_post(service, json.dumps(asked).encode(), "application/json", seconds))
        if not isinstance(said, dict) or "answers" not in said:
            raise unreadable("The reply has no list named answers.")
        return said["answers"]

    whole = hashlib.sha256(json.dumps([url, does, body]).encode()).hexdigest()
    return Target(
        kind="http",
        description={"kind": "http", "name": name or f"{service.host}:{service.port}", "does": does, "body": body},
        identity=f"http {whole}",
        compare=ask if does == "compare" else None,
        template=ask if does == "template" else None,
        most=1 if body == "bytes" else None,
    )


@dataclass(frozen=True, slots=True)
class _Service:
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]
    most: int


def is_loopback(address: str) -> bool:
    """Is this numeric address one of 127.0.0.0/8 or ::1?"""
    try:
        there = ip_address(address)
    except ValueError:
        return False
    return "%" not in address and any(there in network for network in _LOOPBACK)


def _service(url: str, most: int) -> _Service:
    try:
        parts = urlsplit(url)
        port, host = parts.port or 80, parts.hostname or ""
    except ValueError:
        raise UsageError("The URL cannot be read.", mend=_MEND) from None
    if parts.scheme != "http":
        raise UsageError("Only http URLs are driven.", mend=_MEND)
    if parts.username is not None or parts.password is not None:
        raise UsageError("The URL holds a user name or a password.", mend="Leave them out.")
    if any(not "!" <= c <= "~" for c in url):
        raise UsageError("The URL holds a character that must be escaped.", mend=_MEND)
    addresses: tuple[str, ...] = (host,)
    if host == "localhost":
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            raise UsageError("The name localhost has no address on this machine.", mend=_MEND) from None
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses or not all(is_loopback(a) for a in addresses):
        raise UsageError(
            "The service is not on this machine's loopback address, and an audit sends images nowhere else.", mend=_MEND
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Service(host, port, path, addresses, most)


def _contents(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_IMAGE + 1)
    except OSError as error:
        raise TargetError(f"An image cannot be read ({error.strerror}).", mend="Check the files of the work.") from None
    if len(data) > MOST_IMAGE:
        raise TargetError(f"An image is larger than {MOST_IMAGE} bytes.", mend='Use body="paths".')
    return data


def _encoded(path: Path) -> str:
    return base64.b64encode(_contents(path)).decode()


def _post(service: _Service, body: bytes, kind: str, seconds: float) -> bytes:
    """One POST and its reply's body. Raises `Unanswered` for what may be asked again, `TargetError` for what may not."""
    over = threading.Event()
    sockets: list[socket.socket] = []

    def cut() -> None:
        # A time limit on each read would let a service that sends a byte a second go on for ever.
        over.set()
        for sock in sockets:
            with contextlib.suppress(OSError):  # it may be closed already
                sock.shutdown(socket.SHUT_RDWR)

    clock = threading.Timer(seconds, cut)
    clock.daemon = True
    connection = reply = None
    try:
        clock.start()
        connection = _connect(service, seconds)
        sockets.append(connection.sock)
        if over.is_set():
            raise TimeoutError
        connection.request("POST", service.path, body, {"Content-Type": kind, "Accept": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise _refusal(reply.status)
        if (reply.length or 0) > service.most:
            raise unreadable(f"The reply is longer than {service.most} bytes.")
        promised = reply.length
        data = reply.read(service.most + 1)
        if over.is_set():
            raise TimeoutError
        if len(data) > service.most:
            raise unreadable(f"The reply is longer than {service.most} bytes.")
        if promised is not None and len(data) < promised:
            raise http.client.IncompleteRead(b"")
        return data
    except (OSError, http.client.HTTPException) as error:
        if over.is_set() or isinstance(error, TimeoutError):
            raise Unanswered("timeout", f"The service did not reply in {seconds:g} s.", again=True) from None
        raise Unanswered("exit", f"The connection broke off ({type(error).__name__}).", again=True) from None
    finally:
        clock.cancel()
        if reply is not None:
            reply.close()
        if connection is not None:
            connection.close()


def _connect(service: _Service, seconds: float) -> http.client.HTTPConnection:
    for last, address in enumerate(service.addresses, 1):
        connection = http.client.HTTPConnection(address, service.port, timeout=seconds)
        try:
            connection.connect()
        except ConnectionRefusedError:
            if last == len(service.addresses):
                raise
            continue
        if not is_loopback(str(connection.sock.getpeername()[0])):
            connection.close()
            raise TargetError("The connection does not lead to this machine.", mend=_MEND)
        return connection
    raise AssertionError("a service has at least one address")


def _refusal(status: int) -> TargetError:
    if 300 <= status < 400:
        return TargetError(
            f"The service redirects (HTTP {status}), which is refused.", mend="Give the URL that answers itself."
        )
    if status >= 500 or status in _ASK_AGAIN:
        return Unanswered("exit", f"The service replied with HTTP {status}.", again=True)
    return TargetError(
        f"The service replied with HTTP {status} instead of 200.", mend="Check the URL and what the service expects."
    )
