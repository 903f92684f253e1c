"""Envoy as a plain TLS reverse proxy, and as a reverse tunnel between two Envoys (its own extension, experimental there)."""

import json

from .. import fetch, lab
from .base import Peer, version_of

TYPES = "type.googleapis.com/envoy.extensions"
MANY = {"thresholds": [dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 1_000_000)]}


def address(port, host=lab.HOST):
    return {"socket_address": {"address": host, "port_value": port}}


def pair(certificate, key):
    return [{"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}]


def server_tls(shared, client_ca, insist, alpn):
    common = {"tls_certificates": pair(shared / "server.pem", shared / "server.key"), "alpn_protocols": alpn,
              "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3",
                             "cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"]},
              "validation_context": {"trusted_ca": {"filename": str(client_ca)}}}
    config = {"@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext", "common_tls_context": common,
              "require_client_certificate": insist}
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def client_tls(shared):
    common = {"tls_certificates": pair(shared / "cp-1.pem", shared / "cp-1.key"), "alpn_protocols": ["h2", "http/1.1"],
              "validation_context": {"trusted_ca": {"filename": str(shared / "ca.pem")}}}
    config = {"@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext", "common_tls_context": common, "sni": "localhost"}
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def manager(peer, routes, logs, **more):
    """The HTTP connection manager: prefix to cluster, no time-outs that would end a held request."""
    listed = [{"match": {"prefix": prefix}, "route": {"cluster": cluster, "timeout": "0s", "idle_timeout": "1200s"}}
              for prefix, cluster in routes]
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
    config = {"@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "http",
              "stream_idle_timeout": "1200s", "http_filters": [router],
              "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": listed}]}, **more}
    if logs:
        log = {"@type": f"{TYPES}.access_loggers.file.v3.FileAccessLog", "path": str(peer.dir / "access.log")}
        config["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": log}]
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def cluster(name, port, **more):
    places = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": MANY, "load_assignment": places,
            **more}


def origins(origin):
    return [cluster("files", origin.files), cluster("far", origin.far)]


ROUTES = [("/bench/", "files"), ("/far/", "far")]


def run(peer, name, config, port):
    path = peer.write(f"{name}.json", json.dumps(config, indent=1))
    command = [fetch.envoy(peer.options), "-c", path, "--concurrency", peer.options.shards, "--use-dynamic-base-id",
               "--log-level", "warning"]
    server = peer.run(name, command, port)
    peer.processes[name] = [server.pid]


class EnvoyProxy(Peer):
    name, title = "envoy", "Envoy"
    what = "plain TLS reverse proxy, no tunnel"

    @classmethod
    def version(cls, options):
        said = version_of([fetch.envoy(options), "--version"]).split("version:")[-1].strip()
        parts = said.split("/")
        return f"Envoy {parts[1]} ({parts[-1]})" if len(parts) > 2 else said

    def start(self):
        chain = {"filters": [manager(self, ROUTES, self.logs())],
                 "transport_socket": server_tls(self.place.dir, self.place.dir / "clients-ca.pem", False, ["http/1.1"])}
        listener = {"name": "clients", "address": address(self.port), "filter_chains": [chain]}
        run(self, "envoy", {"static_resources": {"listeners": [listener], "clusters": origins(self.origin)}}, self.port)


class EnvoyTunnel(Peer):
    """The inner Envoy dials the outer one with mutual TLS; requests go back over these connections as HTTP/2."""

    name, title, tunnel = "envoy-reverse", "Envoy, reverse tunnel", True
    what = "two Envoys; the inner one dials, HTTP/2 over mutual TLS (experimental in Envoy)"
    inside = ("envoy-inside",)

    version = EnvoyProxy.version

    def start(self):
        shared = self.place.dir
        self.links = lab.free_port()
        streams = {"max_concurrent_streams": 100_000}

        def extension(side, name):
            kind = f"{TYPES}.bootstrap.reverse_tunnel.{side}_socket_interface.v3.{side.title()}ReverseConnectionSocketInterface"
            return {"name": f"envoy.bootstrap.reverse_tunnel.{side}_socket_interface",
                    "typed_config": {"@type": kind, "stat_prefix": name}}

        accept = {"name": "envoy.filters.network.reverse_tunnel", "typed_config":
                  {"@type": f"{TYPES}.filters.network.reverse_tunnel.v3.ReverseTunnel", "ping_interval": "10s"}}
        clients = {"filters": [manager(self, [("/", "inside")], self.logs())],
                   "transport_socket": server_tls(shared, shared / "clients-ca.pem", False, ["http/1.1"])}
        links = {"filters": [accept], "transport_socket": server_tls(shared, shared / "ca.pem", True, ["h2", "http/1.1"])}
        kind = {"@type": f"{TYPES}.clusters.reverse_connection.v3.ReverseConnectionClusterConfig",
                "cleanup_interval": "60s", "host_id_format": "inside"}
        protocol = {"@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": streams}}
        inside = {"name": "inside", "connect_timeout": "200s", "lb_policy": "CLUSTER_PROVIDED", "circuit_breakers": MANY,
                  "cluster_type": {"name": "envoy.clusters.reverse_connection", "typed_config": kind},
                  "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol}}
        run(self, "envoy-edge", {
            "node": {"id": "edge", "cluster": "edge"},
            "bootstrap_extensions": [extension("upstream", "edge")],
            "static_resources": {"clusters": [inside], "listeners": [
                {"name": "links", "address": address(self.links), "filter_chains": [links]},
                {"name": "clients", "address": address(self.port), "filter_chains": [clients]}]}}, self.port)
        dial = address(0, "rc://inside:inside-cluster:compare@edge:4")
        dial["socket_address"]["resolver_name"] = "envoy.resolvers.reverse_connection"
        run(self, "envoy-inside", {
            "node": {"id": "inside", "cluster": "inside-cluster"},
            "bootstrap_extensions": [extension("downstream", "inside")],
            "static_resources": {
                "listeners": [{"name": "requests", "listener_filters_timeout": "0s", "address": dial, "filter_chains": [
                    {"filters": [manager(self, ROUTES, False, http2_protocol_options=streams)]}]}],
                "clusters": [cluster("edge", self.links, transport_socket=client_tls(shared)), *origins(self.origin)]}}, None)
