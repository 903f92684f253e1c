"""What Tidegate promises beside its peers. Each is a figure of this run, or the reason why it could not be had."""

import dataclasses

from .figures import Missing, client_bytes, cpu_s_per_gb, cpu_us, plain

GATEWAY = ["gateway"]


@dataclasses.dataclass(frozen=True)
class Promise:
    what: str
    at_most: float
    moonshot: float
    figure: object
    unit: str = ""

    @property
    def of_time(self):
        """Whether it is CPU time itself, which a busy machine stretches; a ratio within a round suffers less."""
        return self.unit in ("s", "µs")


def ratio(over, under):
    return lambda result: result.ratio(over, under)


def figure(peer, case, of):
    return lambda result: result.figure(peer, case, of)


PROMISES = [
    Promise("gateway's CPU a request, to HAProxy's as a plain proxy (1 KiB, 64 connections)", 0.7, 0.45,
            ratio(("tidegate", "saturation-1k-64", cpu_us(GATEWAY)), ("haproxy", "saturation-1k-64", cpu_us()))),
    Promise("gateway's and connector's CPU a request, to both HAProxies' with reverse HTTP (1 KiB, 64 connections)", 0.6, 0.35,
            ratio(("tidegate", "saturation-1k-64", cpu_us()), ("haproxy-reverse", "saturation-1k-64", cpu_us()))),
    Promise("p50 at 500 requests/s through the tunnel, to HAProxy's as a plain proxy", 1.4, 1.2,
            ratio(("tidegate", "light", plain("p50_ms")), ("haproxy", "light", plain("p50_ms")))),
    Promise("gateway's and connector's CPU a request at 500/s, to both HAProxies' with reverse HTTP", 1.0, 0.6,
            ratio(("tidegate", "light", cpu_us()), ("haproxy-reverse", "light", cpu_us()))),
    Promise("p99 at half of HAProxy's saturation, 256 connections, to HAProxy's as a plain proxy", 1.0, 0.5,
            ratio(("tidegate", "half-haproxy", plain("p99_ms")), ("haproxy", "half-haproxy", plain("p99_ms")))),
    Promise("gateway's and connector's CPU for 1 GB, download", 1.4, 0.9,
            figure("tidegate", "download", cpu_s_per_gb()), "s"),
    Promise("gateway's and connector's CPU for 1 GB, upload", 1.4, 0.9,
            figure("tidegate", "upload", cpu_s_per_gb()), "s"),
    Promise("gateway's CPU for 1 GB, download, to nginx's as a plain proxy", 1.0, 1.0,
            ratio(("tidegate", "download", cpu_s_per_gb(GATEWAY)), ("nginx", "download", cpu_s_per_gb()))),
    Promise("gateway's CPU for 1 GB, upload, to nginx's as a plain proxy", 1.0, 1.0,
            ratio(("tidegate", "upload", cpu_s_per_gb(GATEWAY)), ("nginx", "upload", cpu_s_per_gb()))),
    Promise("gateway's CPU for a full handshake", 120, 105, figure("tidegate", "handshake-full", cpu_us(GATEWAY)), "µs"),
    Promise("the same with a client certificate", 225, 205,
            figure("tidegate", "handshake-certificate", cpu_us(GATEWAY)), "µs"),
    Promise("the same resumed", 110, 95, figure("tidegate", "handshake-resumed", cpu_us(GATEWAY)), "µs"),
    Promise("gateway's and connector's CPU a request over TLS 1.2, to TLS 1.3 (1 KiB, 64 connections)", 1.1, 1.0,
            ratio(("tidegate", "tls12", cpu_us()), ("tidegate", "saturation-1k-64", cpu_us()))),
    Promise("memory of an idle keep-alive client", 2048, 1024, figure("tidegate", "idle", client_bytes), "bytes"),
]


def judged(result):
    """[(promise, figure or None, verdict)]: `moonshot`, `kept`, `missed`, or the reason why there is no figure."""
    rows = []
    for promise in PROMISES:
        try:
            found = promise.figure(result)
        except Missing as reason:
            rows.append((promise, None, str(reason)))
            continue
        verdict = "kept" if found.median <= promise.at_most else "missed"
        if found.median <= promise.moonshot < promise.at_most:
            verdict = "moonshot"
        rows.append((promise, found, verdict))
    return rows
