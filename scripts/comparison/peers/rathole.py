"""rathole behind nginx: a reverse tunnel that carries TCP connections, each over a TLS connection of its own."""

import re
import secrets
import subprocess

from .. import fetch, lab
from .base import Peer
from .nginx import NginxProxy, start_front, tls_front


class Rathole(Peer):
    name, title, tunnel = "rathole", "nginx and rathole", True
    what = "nginx ends TLS, rathole carries its connections over TLS links"
    inside = ("rathole-inside",)

    @classmethod
    def version(cls, options):
        done = subprocess.run([fetch.rathole(options), "--version"], check=False, capture_output=True, text=True)
        found = re.search(r"ersion:?\s+(\d[\w.]*)", done.stdout)
        return f"rathole {found[1] if found else '?'}, {NginxProxy.version(options)}"

    def start(self):
        shared, program, token = self.place.dir, fetch.rathole(self.options), secrets.token_hex(16)
        self.links, files, far = lab.free_port(), lab.free_port(), lab.free_port()
        subprocess.run(["openssl", "pkcs12", "-export", "-inkey", shared / "server.key", "-in", shared / "server.pem",
                        "-out", self.dir / "server.pfx", "-passout", "pass:compare"], check=True, capture_output=True)
        edge = self.write("edge.toml", f"""\
[server]
bind_addr = "{lab.HOST}:{self.links}"
default_token = "{token}"
[server.transport]
type = "tls"
[server.transport.tls]
pkcs12 = "{self.dir}/server.pfx"
pkcs12_password = "compare"
[server.services.files]
bind_addr = "{lab.HOST}:{files}"
[server.services.far]
bind_addr = "{lab.HOST}:{far}"
""")
        inside = self.write("inside.toml", f"""\
[client]
remote_addr = "{lab.HOST}:{self.links}"
default_token = "{token}"
[client.transport]
type = "tls"
[client.transport.tls]
trusted_root = "{shared}/ca.pem"
hostname = "localhost"
[client.services.files]
local_addr = "{lab.HOST}:{self.origin.files}"
[client.services.far]
local_addr = "{lab.HOST}:{self.origin.far}"
""")
        threads = {"TOKIO_WORKER_THREADS": str(self.options.shards), "RUST_LOG": "warn", "RUST_BACKTRACE": "0"}
        start_front(self, "nginx", tls_front(self, files, far))
        server = self.run("rathole-edge", [program, "--server", edge], self.links, threads)
        self.processes["rathole-edge"] = [server.pid]
        client = self.run("rathole-inside", [program, "--client", inside], None, threads)
        self.processes["rathole-inside"] = [client.pid]
        client.wait_until("its services are there", lambda: lab.listens(files) and lab.listens(far))
