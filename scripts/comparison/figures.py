"""Medians, spreads and ratios of samples; nothing here measures.

A result is the file that `scripts/compare --json` writes:
    peers    name, title, what, tunnel, inside, processes, version, configs, commands, left_out
    cases    key, measure, title
    samples  peer, case, round, and the figures of one run: rate, p50_ms, cpu_s by process, histogram, …
    notes    what could not be measured: peer, case, round, text
"""

import dataclasses
import statistics

OF_THE_ORIGIN = ("origin", "upstream")
UNASKED = "not measured"


class Missing(Exception):
    """A figure is not there; the text says why."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """Values of the rounds, in their order; the median stands for them, least and most show how far they lie apart."""

    values: tuple

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def least(self):
        return min(self.values)

    @property
    def most(self):
        return max(self.values)


class Result:
    def __init__(self, data):
        self.data = data
        self.peers = {peer["name"]: peer for peer in data["peers"]}
        self.cases = {case["key"]: case for case in data["cases"]}
        self.by_round = {(one["peer"], one["case"], one["round"]): one for one in data["samples"]}

    def measured(self, case):
        """Peers with a sample of this case, in the order of the list of peers."""
        found = {one["peer"] for one in self.data["samples"] if one["case"] == case}
        return [name for name in self.peers if name in found]

    def samples(self, peer, case):
        found = [one for (name, key, _), one in sorted(self.by_round.items(), key=lambda item: item[0][2])
                 if name == peer and key == case]
        if not found:
            raise Missing(self.why(peer, case))
        return found

    def why(self, peer, case):
        """Why there is no sample."""
        known = self.peers.get(peer)
        if known is None:
            return f"{peer} took no part"
        if known["left_out"]:
            return f"{known['title']} was left out: {known['left_out'].strip().splitlines()[0]}"
        for note in self.data["notes"]:
            if note["peer"] == peer and note["case"] in (case, None):
                return f"{known['title']}: {note['text'].strip().splitlines()[0]}"
        return f"{UNASKED} in this run"

    def figure(self, peer, case, of):
        values = tuple(value for one in self.samples(peer, case) if (value := of(one)) is not None)
        if not values:
            raise Missing(UNASKED)
        return Figure(values)

    def figure_or_none(self, peer, case, of):
        """None where the samples are there and this figure is not."""
        return self.figure(peer, case, of) if any(of(one) is not None for one in self.samples(peer, case)) else None

    def ratio(self, over, under):
        """Of two figures, each `(peer, case, of)`, within each round that has both."""
        reasons = [self.why(*side[:2]) for side in (over, under) if side[0] not in self.measured(side[1])]
        if reasons:
            raise Missing(max(reasons, key=lambda reason: not reason.startswith(UNASKED)))
        values = []
        for one in self.samples(*over[:2]):
            other = self.by_round.get((under[0], under[1], one["round"]))
            if other and under[2](other):
                values.append(over[2](one) / under[2](other))
        if not values:
            raise Missing("no round has both")
        return Figure(tuple(values))

    def disturbed(self):
        """(cores that other processes took: median and most, cores that the hypervisor took: most), or None."""
        seen = [(one["foreign_cores"], one["stolen_cores"]) for one in self.data["samples"] if "foreign_cores" in one]
        if not seen:
            return None
        foreign, stolen = zip(*seen)
        return statistics.median(foreign), max(foreign), max(stolen)

    def histogram(self, peer, case):
        """All rounds' counts together: [(upper bound in µs, count)], ascending."""
        merged = {}
        for one in self.samples(peer, case):
            for bound, count in one.get("histogram", []):
                merged[bound] = merged.get(bound, 0) + count
        return sorted(merged.items())


def cpu_seconds(sample, names=None):
    """Of these processes; by default of all of the peer's."""
    return sum(value for name, value in sample["cpu_s"].items()
               if (name in names if names is not None else name not in OF_THE_ORIGIN))


def cpu_us(names=None):
    """CPU µs a request (handshake) of these processes."""
    return lambda sample: 1e6 * cpu_seconds(sample, names) / sample["requests"]


def cpu_s_per_gb(names=None):
    """CPU seconds for 1e9 bytes of bodies."""
    return lambda sample: cpu_seconds(sample, names) / (sample["bytes"] / 1e9) if sample["bytes"] else 0.0


def plain(name):
    return lambda sample: sample[name]


def client_bytes(sample):
    return sum(sample["bytes_a_client"].values())


def quantile_us(histogram, quantile):
    """The upper bound under which this share of the counts lies."""
    total = sum(count for _, count in histogram)
    below = 0
    for bound, count in histogram:
        below += count
        if below >= quantile * total:
            return bound
    return histogram[-1][0] if histogram else 0


def percentile_curve(histogram):
    """[(quantile, µs)] of a histogram, rising in both; ends where the count ends, so that its last step is one request."""
    total = sum(count for _, count in histogram)
    points, below = [], 0
    for bound, count in histogram:
        below += count
        points.append(((below - count) / total, bound))
    return points


def number(value, unit=""):
    """A figure for people: three digits that mean something; a dash where there is none."""
    if value is None:
        return "–"
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2
    text = f"{value:,.{digits}f}"
    return f"{text} {unit}".rstrip()
