"""HAProxy as a plain TLS reverse proxy, and as a tunnel: reverse HTTP, where the inside dials (2.9 and newer)."""

import re

from .. import fetch, lab
from .base import Peer, version_of

OLDEST_TUNNEL = (2, 9)


def frame(options, more="", logs=False):
    log = "    log stdout format raw local0\n" if logs else ""
    line = "    log global\n    option httplog\n" if logs else ""
    return f"""\
global
    nbthread {options.shards}
    maxconn 9000
    tune.bufsize 65536
{log}{more}
defaults
    mode http
    timeout connect 5s
    timeout client 1200s
    timeout server 1200s
    http-reuse always
{line}"""


def clients(peer, backend):
    shared = peer.place.dir
    return f"""
frontend clients
    bind {lab.HOST}:{peer.port} backlog 8192 ssl crt {shared}/server-both.pem ca-file {shared}/clients-ca.pem verify optional
{backend}"""


def origins(origin):
    return f"""
backend files
    server files {lab.HOST}:{origin.files}
backend far
    server far {lab.HOST}:{origin.far}
"""


CHOICE = """\
    use_backend far if { path_beg /far/ }
    default_backend files
"""


def said_version(command):
    return version_of([*command, "-v"]).split(" - ")[0].replace(" version", "")


class HaproxyProxy(Peer):
    name, title = "haproxy", "HAProxy"
    what = "plain TLS reverse proxy, no tunnel"

    @classmethod
    def version(cls, options):
        return said_version(["haproxy"])

    def start(self):
        path = self.write("haproxy.cfg", frame(self.options, logs=self.logs()) + clients(self, CHOICE) + origins(self.origin))
        server = self.run("haproxy", ["haproxy", "-db", "-f", path], self.port)
        self.processes["haproxy"] = [server.pid]


class HaproxyTunnel(Peer):
    """Links are HTTP/2 over mutual TLS, dialled by the inside and used backwards."""

    name, title, tunnel = "haproxy-reverse", "HAProxy, reverse HTTP", True
    what = "two HAProxies; the inner one dials, HTTP/2 over mutual TLS"
    inside = ("haproxy-inside",)

    @classmethod
    def version(cls, options):
        said = said_version(fetch.haproxy(options))
        found = re.search(r"(\d+)\.(\d+)", said)
        if not found or tuple(map(int, found.groups())) < OLDEST_TUNNEL:
            raise lab.Failed(f"{said}: reverse HTTP needs 2.9 or newer (--haproxy PATH, or --fetch)")
        return said

    def start(self):
        program, shared = fetch.haproxy(self.options), self.place.dir
        self.links = lab.free_port()
        streams = "    expose-experimental-directives\n    tune.h2.be.max-concurrent-streams 1000\n" \
                  "    tune.h2.fe.max-concurrent-streams 1000\n" \
                  "    tune.h2.max-frame-size 65536\n" \
                  "    tune.h2.be.initial-window-size 1048576\n    tune.h2.fe.initial-window-size 1048576\n"
        edge = self.write("edge.cfg", frame(self.options, streams, self.logs()) + clients(self, "    default_backend inside\n") + f"""
backend inside
    server inside rhttp@
frontend links
    bind {lab.HOST}:{self.links} ssl crt {shared}/server-both.pem ca-file {shared}/ca.pem verify required alpn h2
    tcp-request session attach-srv inside/inside
""")
        inside = self.write("inside.cfg", frame(self.options, streams) + f"""
backend edge
    server edge {lab.HOST}:{self.links} ssl crt {shared}/cp-1-both.pem ca-file {shared}/ca.pem verify required alpn h2
frontend requests
    bind rhttp@edge/edge nbconn 4
{CHOICE}""" + origins(self.origin))
        for name, config, port in (("haproxy-edge", edge, self.port), ("haproxy-inside", inside, None)):
            server = self.run(name, [*program, "-db", "-f", config], port)
            self.processes[name] = [server.pid]
