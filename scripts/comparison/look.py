"""The first look at a peer: does it answer with the right bytes, in full, over connections to the origin that it keeps."""

import http.client
import socket
import ssl

from . import lab
from .origin import SIZES

BODY = 300_000
ASKED = 20


def trusting(place):
    return ssl.create_default_context(cafile=place.dir / "ca.pem")


def ciphers(peer):
    """What a client is given that prefers AES-256-GCM, as the load generator does: {TLS version: cipher}."""
    found = {}
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        context = trusting(peer.place)
        context.minimum_version = context.maximum_version = version
        try:
            with socket.create_connection((lab.HOST, peer.port), 5) as plain, \
                    context.wrap_socket(plain, server_hostname="localhost") as secured:
                found[secured.version()] = secured.cipher()[0]
        except OSError as error:
            raise lab.Failed(f"{version.name}: {error}") from None
    return found


def connect(place, port):
    context = trusting(place)
    return http.client.HTTPSConnection("localhost", port, timeout=10, context=context)


def ask(connection, method, path, body=None):
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise lab.Failed(f"{method} {path}: status {answer.status}: {text[:200]!r}")
    return text


def whole(peer):
    """Raises lab.Failed at the first thing that is not as it must be."""
    try:
        connection = connect(peer.place, peer.port)
        for name, bytes_ in peer.origin.bytes.items():
            if ask(connection, "GET", f"/bench/{name}") != bytes_:
                raise lab.Failed(f"GET /bench/{name}: wrong bytes")
        connection.request("HEAD", "/bench/100m")
        answer = connection.getresponse()
        answer.read()
        if answer.getheader("Content-Length") != str(SIZES["100m"]):
            raise lab.Failed(f"HEAD /bench/100m: length {answer.getheader('Content-Length')}")
        said = ask(connection, "PUT", "/far/sink", bytes(BODY))
        if said != f"read {BODY}\n".encode():
            raise lab.Failed(f"PUT /far/sink: {said!r} in place of {BODY} bytes read")
        if ask(connection, "GET", "/far/hold/0") != b"no news\n":
            raise lab.Failed("GET /far/hold/0: wrong answer")
        kept = max(int(ask(connection, "GET", "/bench/connection").split()[1]) for _ in range(ASKED))
        if kept < ASKED // 2:
            raise lab.Failed(f"it does not keep its connections to the origin: at most {kept} requests on one")
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise lab.Failed(f"the first look: {type(error).__name__}: {error}") from None
