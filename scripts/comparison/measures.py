"""The cases: what is asked of every peer in each round. Units are in the names; sizes of files are in `origin.SIZES`."""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import time

from . import lab, load

LIGHT = 500
BUSY = 256
QUICK_SECONDS = 1.2
SETTLE_SECONDS = 1.5
# Until all connections of a busy load are open: their handshakes are not what a fixed rate is to show.
OPENING_SECONDS = 2.4
ALL = ("all",)
OURS = ("tidegate",)
PLAIN = ("tidegate", "nginx", "haproxy")


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing that is measured, of all peers or of some. `extra_seconds` are those beside the load's own, for the time that
    is left; `quick` says of which peers --quick measures it, `quick_rounds` how often."""

    key: str
    measure: str
    title: str
    run: object
    quick: tuple | None = None
    only: tuple | None = None
    seconds: float = 4.0
    warm_up: float = 1.0
    extra_seconds: float = 0.5
    quick_rounds: int = 1_000
    quick_warm_up: float = 0.3

    def peers(self, options, names):
        """Those of `names` that it is measured of."""
        wanted = [set(which) for which in (self.only, self.quick if options.quick else None) if which and which != ALL]
        return [name for name in names if all(name in which for which in wanted)]


@dataclasses.dataclass
class Context:
    """What a case needs to know of the run: how long it may take, how busy each peer can be."""

    options: object
    saturation: dict
    fresh: object

    def seconds(self, case):
        return min(case.seconds, QUICK_SECONDS) if self.options.quick else case.seconds

    def warm_up(self, case):
        return min(case.warm_up, case.quick_warm_up) if self.options.quick else case.warm_up


def requests(path, connections, rate=None, more=()):
    """A load of requests; `rate(context, peer)` of them a second, or as many as the connections carry."""

    def run(context, case, peer):
        flags = ["--connections", connections, *more]
        asked = rate and rate(context, peer)
        if asked:
            flags += ["--rate", asked]
        sample, line = load.run(peer, "requests", path, context.seconds(case), context.warm_up(case), flags)
        if asked:
            sample["asked_rate"] = asked
        return sample, line

    return run


def wrk(context, case, peer):
    """Requests by another load generator, over whose latencies ours can be held. What it says in µs, ms or s is in ms here."""
    program = shutil.which("wrk")
    if not program:
        raise lab.Failed("wrk is not installed")
    seconds = max(1, round(context.seconds(case)))
    line = [program, "-t1", "-c64", f"-d{seconds}s", "--latency", f"https://localhost:{peer.port}/bench/1k"]
    named = {**peer.processes, **peer.origin.pids}
    before = {name: sum(map(lab.cpu_seconds, ids)) for name, ids in named.items()}
    line = peer.place.on_cores("load", line)
    done = subprocess.run(line, check=False, capture_output=True, text=True, start_new_session=True)
    spent = {name: sum(map(lab.cpu_seconds, ids)) - before[name] for name, ids in named.items()}
    if done.returncode or re.search(r"Non-2xx|Socket errors", done.stdout):
        raise lab.Failed(f"wrk: {(done.stdout + done.stderr).strip()[-400:]}")
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    times = {share: float(value) * unit[of] for share, value, of in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)\b", done.stdout)}
    count, over = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout).groups()
    sample = {"kind": "wrk", "requests": int(count), "seconds": float(over), "rate": int(count) / float(over), "bytes": 0,
              "cpu_s": spent, "histogram": [], "p50_ms": times["50"], "p99_ms": times["99"], "p999_ms": None}
    return sample, " ".join(line)


def light(context, peer):
    return LIGHT


def half_of(name):
    """Half of what a peer (None: this one) carried at most when it was first loaded; refused when that is more than `peer` can."""

    def rate(context, peer):
        of = name or peer.name
        if of not in context.saturation:
            raise lab.Failed(f"{of} was not measured at saturation")
        half = round(context.saturation[of] / 2)
        if half > 0.95 * context.saturation[peer.name]:
            raise lab.Failed(f"{half} requests/s are beyond its own saturation, {context.saturation[peer.name]:.0f}/s")
        return half

    return rate


def handshakes(*more):
    """Handshakes, each on a connection that ends with it; a run that was to resume and did so too seldom is refused."""

    def run(context, case, peer):
        flags = [peer.place.dir / flag if flag.endswith((".pem", ".key")) else flag for flag in more]
        sample, line = load.run(peer, "handshakes", "/bench/1k", context.seconds(case), context.warm_up(case), flags)
        if "--resumed" in more and sample["resumed_share"] < 0.9:
            raise lab.Failed(f"only {100 * sample['resumed_share']:.0f} % of its handshakes were resumed (a server that sends tickets "
                             "with its first answer gives none to clients that shake hands and leave)")
        return sample, line

    return run


def transfer(path, connections, *more):
    def run(context, case, peer):
        flags = ["--connections", connections, *more]
        return load.run(peer, "transfer", path, context.seconds(case), context.warm_up(case), flags)

    return run


class Clients:
    """The program `clients.py`: so many TLS connections held, as a context."""

    def __init__(self, peer, count, path, how):
        program = pathlib.Path(__file__).with_name("clients.py")
        line = [sys.executable, program, count, peer.port, peer.place.dir / "ca.pem", path, how]
        self.line = " ".join(str(part) for part in ["clients.py", *line[2:]])
        self.process = subprocess.Popen(peer.place.on_cores("load", line), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True)

    def __enter__(self):
        return self

    def wait_open(self):
        if not self.process.stdout.readline().startswith("open"):
            self.process.wait()
            raise lab.Failed(f"the clients failed:\n{self.process.stderr.read()[-800:]}")

    def __exit__(self, *of):
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def idle(context, case, peer):
    """Resident memory that idle clients add to a peer that was just started, after some have come and gone."""
    count = 1000 if context.options.quick else 4000
    with context.fresh(peer) as new:
        with Clients(new, 200, "/bench/1k", "idle") as clients:
            clients.wait_open()
        time.sleep(SETTLE_SECONDS)
        before, kernel = {name: sum(map(lab.rss_kib, ids)) for name, ids in new.processes.items()}, lab.kernel_kib()
        with Clients(new, count, "/bench/1k", "idle") as clients:
            clients.wait_open()
            time.sleep(SETTLE_SECONDS)
            after = {name: sum(map(lab.rss_kib, ids)) for name, ids in new.processes.items()}
            grown = lab.kernel_kib() - kernel
            line = clients.line
    bytes_ = {name: 1024 * (after[name] - before[name]) / count for name in before}
    return {"clients": count, "bytes_a_client": bytes_, "kernel_bytes_a_client": 1024 * grown / count}, line


def held(context, case, peer):
    """Connections of the inner side while requests are held: to the outer side and to the upstream."""
    count = 500 if context.options.quick else 2000
    with peer.origin.other_upstream() as origin, context.fresh(peer, origin) as new:
        with Clients(new, count, "/far/hold/600", "held") as clients:
            clients.wait_open()
            return sockets(new, count), clients.line


def stable(ports):
    """Counts connections until they have not changed for a second."""
    last, since, end = None, time.monotonic(), time.monotonic() + 20
    while time.monotonic() < end:
        now = lab.established(ports)
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 1:
            break
        time.sleep(0.1)
    return last


def sockets(peer, count):
    counts = stable([port for port in (peer.origin.far, peer.links) if port])
    links, upstream = counts.get(peer.links, 0), counts[peer.origin.far]
    return {"held": count, "links": links, "upstream": upstream, "sockets": links + upstream}


def channels(context, case, peer):
    """The same for clients that wait on channels of Tidegate's own, which no upstream holds."""
    count = 500 if context.options.quick else 2000
    with peer.origin.other_upstream() as origin, context.fresh(peer, origin) as new:
        place = new.place
        line = [place.program, "load", "channels", "--target", f"https://localhost:{new.port}", "--ca", place.dir / "ca.pem",
                "--pki", place.dir, "--count", count, "--kind", "poll", "--hold", "20s"]
        server = place.start("channels", line, "load")
        try:
            server.wait_until("all are held", lambda: new.metric("tidegate_channels") >= count, 60)
            return sockets(new, count), " ".join(str(part) for part in line)
        finally:
            place.stop(server)


def saturation(name, size, connections, quick=None):
    title = f"{size} answers, {connections} connections, as many as go"
    return Case(f"saturation-{name}-{connections}", "saturation", title, requests(f"/bench/{name}", connections), quick)


CASES = [
    saturation("1k", "1 KiB", 64, ALL),
    saturation("1k", "1 KiB", BUSY),
    saturation("16k", "16 KiB", 64),
    saturation("64k", "64 KiB", 64),
    Case("wrk", "saturation", "1 KiB answers, 64 connections, as many as go, load by wrk in place of tidegate load", wrk),
    Case("light", "rate", f"1 KiB answers, {LIGHT} requests/s, 64 connections", requests("/bench/1k", 64, light), ALL,
         quick_warm_up=0.5),
    Case("half-haproxy", "rate", f"1 KiB answers, half of HAProxy's saturation, {BUSY} connections",
         requests("/bench/1k", BUSY, half_of("haproxy")), ALL, warm_up=OPENING_SECONDS, quick_warm_up=OPENING_SECONDS / 2),
    Case("half-own", "rate", f"1 KiB answers, half of its own saturation, {BUSY} connections",
         requests("/bench/1k", BUSY, half_of(None)), warm_up=OPENING_SECONDS),
    Case("tls12", "tls12", "1 KiB answers, 64 connections, TLS 1.2, as many as go",
         requests("/bench/1k", 64, more=("--tls12",)), OURS),
    Case("handshake-full", "handshakes", "full handshakes", handshakes(), ALL),
    Case("handshake-resumed", "handshakes", "resumed handshakes", handshakes("--resumed"), OURS),
    Case("handshake-certificate", "handshakes", "full handshakes with a client certificate",
         handshakes("--cert", "device-1.pem", "--key", "device-1.key"), OURS),
    Case("download", "transfer", "download of 100 MB files, 4 connections", transfer("/bench/100m", 4, "--download"), PLAIN),
    Case("download-1m", "transfer", "download of 1 MB files, 16 connections", transfer("/bench/1m", 16, "--download")),
    Case("upload", "transfer", "upload of 100 MB, 4 connections", transfer("/far/sink", 4, "--upload", "100MB"), PLAIN),
    Case("idle", "memory", "memory of idle keep-alive clients", idle, PLAIN, None, 0, 0, 9, 1),
    Case("held", "held", "connections of the inner side for held requests", held, ALL, None, 0, 0, 4, 1),
    Case("channels", "held", "the same for clients that wait on Tidegate's channels", channels, OURS, OURS, 0, 0, 4, 1),
]
MEASURES = list(dict.fromkeys(case.measure for case in CASES))


def asked(options):
    """The cases of a run."""
    return [case for case in CASES if case.measure in (options.measure or MEASURES) and (case.quick or not options.quick)]
