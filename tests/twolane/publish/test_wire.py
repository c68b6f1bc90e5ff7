from __future__ import annotations

import datetime
import ipaddress
import os
import select
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from twolane.publish.client import IDLE_S, BrokenResponseError, Response, Wire
from twolane.publish.transport import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def wire(scripted: Any, now: list[float]) -> Iterator[Wire]:
    wire = Wire(Endpoint.of(scripted.url), monotonic=lambda: now[0])
    yield wire
    wire.close()


def post(wire: Wire) -> Response:
    return wire.post({"host": "q"}, b"{}", timeout_s=5)


def connections(scripted: Any) -> int:
    return len({seen.connection for seen in scripted.seen})


def test_a_connection_is_kept(wire: Wire, scripted: Any) -> None:
    assert post(wire) == Response(200, b'{"MessageId": "m"}', reusable=True)
    assert post(wire) == Response(200, b'{"MessageId": "m"}', reusable=True)
    assert connections(scripted) == 1


def test_a_connection_that_idled_too_long_is_opened_anew(
    wire: Wire, scripted: Any, now: list[float]
) -> None:
    post(wire)
    now[0] += IDLE_S + 1
    post(wire)
    assert connections(scripted) == 2


def test_a_connection_that_the_server_closed_meanwhile_is_noticed_before_it_is_used(
    wire: Wire, scripted: Any
) -> None:
    """As after a freeze: the FIN arrived while nobody looked."""
    scripted.hang_up_after_answer = True
    post(wire)
    assert scripted.hung_up.wait(5)
    scripted.hang_up_after_answer = False
    assert post(wire).status == 200
    assert (len(scripted.seen), connections(scripted)) == (2, 2)


def test_a_lost_answer_is_an_error_and_the_next_request_starts_anew(
    wire: Wire, scripted: Any
) -> None:
    scripted.will(None)
    with pytest.raises(BrokenResponseError, match="without an answer"):
        post(wire)
    assert post(wire).status == 200


def test_a_late_answer_is_not_the_next_request_s() -> None:
    def answer(connection: socket.socket, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)

    def serve(listener: socket.socket) -> None:
        first, _ = listener.accept()
        with first:
            first.recv(65536)
            answer(first, b"first")
            first.recv(65536)  # and no answer, until there is another request
            ready, _, _ = select.select([listener, first], [], [], 10)
            if first in ready and first.recv(65536):
                answer(first, b"late")
                return
            second, _ = listener.accept()
            with second:
                second.recv(65536)
                answer(second, b"own")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        wire = Wire(Endpoint.of(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert post(wire).body == b"first"
        with pytest.raises(TimeoutError):
            wire.post({"host": "q"}, b"{}", timeout_s=0.1)
        assert post(wire).body == b"own"
        wire.close()
        thread.join(10)


def test_a_forked_process_opens_a_connection_of_its_own(
    wire: Wire, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(wire)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    post(wire)
    post(wire)
    assert connections(scripted) == 2


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server on 127.0.0.1 with a certificate that nobody but its own file vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = tmp_path / "key.pem"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            return

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, secret)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1], bundle
    server.shutdown()
    thread.join()
    server.server_close()


def test_https_with_a_bundle_of_ones_own(tls_server: tuple[int, Path]) -> None:
    port, bundle = tls_server
    wire = Wire(Endpoint.of(f"https://127.0.0.1:{port}"), ca_bundle=str(bundle))
    assert post(wire).status == 200
    assert post(wire).status == 200
    wire.close()


def test_a_server_that_nobody_vouches_for_is_not_talked_to(tls_server: tuple[int, Path]) -> None:
    wire = Wire(Endpoint.of(f"https://127.0.0.1:{tls_server[0]}"))
    with pytest.raises(ssl.SSLCertVerificationError):
        post(wire)
