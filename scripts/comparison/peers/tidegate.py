"""Tidegate: a gateway and a connector."""

import urllib.request

from .. import lab
from .base import Peer, version_of


def ready(port):
    try:
        return urllib.request.urlopen(f"http://{lab.HOST}:{port}/readyz", timeout=2).status == 200
    except OSError:
        return False


class Tidegate(Peer):
    name, title, tunnel = "tidegate", "Tidegate", True
    what = "gateway and connector over relay links with mutual TLS"
    inside = ("connector",)

    @classmethod
    def version(cls, options):
        return version_of([options.program, "--version"])

    def start(self):
        shared = self.place.dir
        self.links, self.admin, inner = lab.free_port(), lab.free_port(), lab.free_port()
        gateway = self.write("gateway.toml", f"""\
[gateway]
name = "compare"
shards = {self.options.shards}
[listen]
clients = ["{lab.HOST}:{self.port}"]
relay = ["{lab.HOST}:{self.links}"]
admin = "{lab.HOST}:{self.admin}"
[tls]
certificate = "{shared}/server.pem"
key = "{shared}/server.key"
[relay]
connector_ca = "{shared}/ca.pem"
[log]
access = "{'all' if self.logs() else 'off'}"
""")
        connector = self.write("connector.toml", f"""\
[connector]
id = "cp-1"
site = "main"
shards = {self.options.shards}
admin = "{lab.HOST}:{inner}"
tls = {{ certificate = "{shared}/cp-1.pem", key = "{shared}/cp-1.key", gateway_ca = "{shared}/ca.pem" }}
[[gateway]]
host = "{lab.HOST}"
port = {self.links}
[site]
revision = 1
client_ca = [{{ name = "corp", file = "{shared}/clients-ca.pem", id = "dns_san" }}]
channels = "any"
[notify]
listen = "{lab.HOST}:{lab.free_port()}"
store = "notify.redb"
[[route]]
path = "/bench/"
upstream = ["http://{lab.HOST}:{self.origin.files}"]
auth = "none"
[[route]]
path = "/far/"
upstream = ["http://{lab.HOST}:{self.origin.far}"]
auth = "none"
timeout = "20m"
max_body = "unlimited"
[log]
access = "off"
""")
        for role, config, port in (("gateway", gateway, self.admin), ("connector", connector, inner)):
            server = self.run(role, [self.options.program, role, "--config", config], port)
            self.processes[role] = [server.pid]
            server.wait_until("is ready", lambda port=port, role=role: role == "gateway" or ready(port))

    def metric(self, name):
        """The sum of one of the gateway's metrics."""
        text = urllib.request.urlopen(f"http://{lab.HOST}:{self.admin}/metrics", timeout=10).read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((name + "{", name + " ")))
