"""nginx as a plain TLS reverse proxy; and as the TLS front of tunnels that have none."""

from .. import lab
from ..origin import nginx_frame
from .base import Peer, version_of


def tls_front(peer, files, far):
    """The configuration of a TLS proxy towards two ports of this machine."""
    shared, options = peer.place.dir, peer.options
    log = f"access_log {peer.dir}/access.log combined buffer=64k flush=1s;" if peer.logs() else "access_log off;"
    return nginx_frame(peer.dir, options.shards, 16384, f"""\
    {log}
    client_max_body_size 0;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_buffer_size 16k;
    proxy_buffers 16 32k;
    proxy_busy_buffers_size 64k;
    proxy_read_timeout 1200s;
    upstream files {{ server {lab.HOST}:{files}; keepalive 256; keepalive_requests 1000000000; }}
    upstream far {{ server {lab.HOST}:{far}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen {lab.HOST}:{peer.port} ssl backlog=8192;
        ssl_certificate {shared}/server.pem;
        ssl_certificate_key {shared}/server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_client optional;
        ssl_client_certificate {shared}/clients-ca.pem;
        location /bench/ {{ proxy_pass http://files; }}
        location /far/ {{ proxy_pass http://far; }}
    }}""")


def start_front(peer, name, config):
    """Starts it as one of the peer's processes: its workers are what counts."""
    path = peer.write(f"{name}.conf", config)
    server = peer.run(name, ["nginx", "-p", peer.dir, "-c", path, "-e", peer.dir / "error.log"], peer.port)
    server.wait_until("has workers", lambda: len(lab.children(server.pid)) == peer.options.shards)
    peer.processes[name] = lab.children(server.pid)


class NginxProxy(Peer):
    name, title = "nginx", "nginx"
    what = "plain TLS reverse proxy, no tunnel"

    @classmethod
    def version(cls, options):
        return version_of(["nginx", "-v"]).removeprefix("nginx version: ")

    def start(self):
        start_front(self, "nginx", tls_front(self, self.origin.files, self.origin.far))
