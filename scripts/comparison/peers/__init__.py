"""The peers, one file for each kind. All take TLS 1.2 and 1.3 from clients with the same ECDSA P-256 certificate, ask them
for a certificate without insisting, resume sessions by ticket, and keep connections to the origin open."""

from .base import Peer
from .envoy import EnvoyProxy, EnvoyTunnel
from .haproxy import HaproxyProxy, HaproxyTunnel
from .nginx import NginxProxy
from .rathole import Rathole
from .tidegate import Tidegate

ALL = [Tidegate, NginxProxy, HaproxyProxy, EnvoyProxy, HaproxyTunnel, EnvoyTunnel, Rathole]

__all__ = ["ALL", "Peer"]
