"""What Tidegate promises beside its peers: figures of a run. How much is promised stands in tuning/budgets.toml."""

import dataclasses
import functools

from budgets import read

from .figures import Missing, client_bytes, cpu_s_per_gb, cpu_us, plain
from .lab import Failed

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


# By the names that they have in tuning/budgets.toml: `source = "compare:NAME"`.
FIGURES = {
    "gateway_cpu_to_haproxy": ratio(("tidegate", "saturation-1k-64", cpu_us(GATEWAY)),
                                    ("haproxy", "saturation-1k-64", cpu_us())),
    "tunnel_cpu_to_haproxy_reverse": ratio(("tidegate", "saturation-1k-64", cpu_us()),
                                           ("haproxy-reverse", "saturation-1k-64", cpu_us())),
    "light_p50_to_haproxy": ratio(("tidegate", "light", plain("p50_ms")), ("haproxy", "light", plain("p50_ms"))),
    "light_cpu_to_haproxy_reverse": ratio(("tidegate", "light", cpu_us()), ("haproxy-reverse", "light", cpu_us())),
    "half_p99_to_haproxy": ratio(("tidegate", "half-haproxy", plain("p99_ms")), ("haproxy", "half-haproxy", plain("p99_ms"))),
    "download_cpu": figure("tidegate", "download", cpu_s_per_gb()),
    "upload_cpu": figure("tidegate", "upload", cpu_s_per_gb()),
    "download_gateway_to_nginx": ratio(("tidegate", "download", cpu_s_per_gb(GATEWAY)), ("nginx", "download", cpu_s_per_gb())),
    "upload_gateway_to_nginx": ratio(("tidegate", "upload", cpu_s_per_gb(GATEWAY)), ("nginx", "upload", cpu_s_per_gb())),
    "handshake_full": figure("tidegate", "handshake-full", cpu_us(GATEWAY)),
    "handshake_certificate": figure("tidegate", "handshake-certificate", cpu_us(GATEWAY)),
    "handshake_resumed": figure("tidegate", "handshake-resumed", cpu_us(GATEWAY)),
    "tls12_cpu_to_tls13": ratio(("tidegate", "tls12", cpu_us()), ("tidegate", "saturation-1k-64", cpu_us())),
    "idle_client_bytes": figure("tidegate", "idle", client_bytes),
}


@functools.cache
def promised():
    """The promises of tuning/budgets.toml, in its order."""
    try:
        budgets = read.load()
    except read.Wrong as error:
        raise Failed(str(error)) from None
    found = []
    for budget in budgets:
        figure = read.tool_of(budget.source) == "compare" and FIGURES.get(read.name_of(budget.source))
        if figure:
            goal = budget.limit if budget.goal is None else budget.goal
            unit = "" if budget.unit == "ratio" else budget.unit
            found.append(Promise(budget.what, budget.limit, goal, figure, unit))
    return found


def judged(result):
    """[(promise, figure or None, verdict)]: `moonshot`, `kept`, `missed`, or the reason why there is no figure."""
    rows = []
    for promise in promised():
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
