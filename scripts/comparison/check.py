"""`scripts/compare --check`: statistics, promises, tables and page on figures that are made up, without measuring anything."""

import re
import unittest
from html.parser import HTMLParser

from . import charts, figures, load, measures, page, promises, tables
from .lab import Failed

EVIL = "<script>alert('&')</script>"


def one(peer, case, round_, cpu, **more):
    """A sample of 1,000 requests whose latencies are 1 to 1,000 µs."""
    return {"peer": peer, "case": case, "round": round_, "requests": 1000, "seconds": 1.0, "rate": 1000.0, "bytes": 2_000_000_000,
            "cpu_s": {"origin": 9.0, **cpu}, "histogram": [[us, 1] for us in range(1, 1001)], "p50_ms": 0.5, "p90_ms": 0.9,
            "p99_ms": 0.99, "p999_ms": 0.999, "max_ms": 1.0, **more}


def canned():
    """Three rounds of Tidegate and HAProxy: the machine is twice as slow in the second one, the ratio stays."""
    slow = [1.0, 2.0, 1.0]
    samples = []
    for number, factor in enumerate(slow):
        samples += [
            one("tidegate", "saturation-1k-64", number, {"gateway": 0.010 * factor, "connector": 0.020 * factor}),
            one("haproxy", "saturation-1k-64", number, {"haproxy": 0.040 * factor}),
            one("tidegate", "download", number, {"gateway": 1.0 * factor, "connector": 1.0 * factor}),
            {"peer": "tidegate", "case": "idle", "round": number, "clients": 10,
             "bytes_a_client": {"gateway": 3000.0, "connector": 8.0}, "kernel_bytes_a_client": 4000.0},
            {"peer": "tidegate", "case": "held", "round": number, "held": 10, "links": 1, "upstream": 10, "sockets": 11},
        ]
    kinds = [("tidegate", "Tidegate", ["gateway", "connector"], ["connector"], None),
             ("haproxy", "HAProxy", ["haproxy"], [], None),
             ("nginx", EVIL, [], [], f"it ended:\n{EVIL}")]
    peers = [{"name": name, "title": title, "what": "…", "tunnel": bool(inside), "inside": inside, "processes": processes,
              "version": "1", "ciphers": {}, "configs": {"it.conf": EVIL}, "commands": [EVIL], "left_out": out}
             for name, title, processes, inside, out in kinds]
    cases = [{"key": case.key, "measure": case.measure, "title": case.title, "seconds": 1, "commands": {"tidegate": EVIL}}
             for case in measures.CASES]
    return figures.Result({
        "schema": 1, "created": "2026-01-01T00:00:00Z", "command": EVIL, "origin": EVIL, "samples": samples, "peers": peers,
        "cases": cases, "saturation": {"tidegate": 1000.0},
        "options": {"rounds": 3, "shards": 1, "load_shards": 1, "logs": "off", "pin": False},
        "notes": [{"peer": "haproxy", "case": "light", "round": 0, "text": f"status 503 {EVIL}"}],
        "machine": {"cpu": EVIL, "cores": 2, "memory_gib": 1, "kernel": "6", "system": "", "mitigations": {}}})


class Statistics(unittest.TestCase):
    def setUp(self):
        self.result = canned()

    def test_medians_and_spread(self):
        figure = self.result.figure("tidegate", "saturation-1k-64", figures.cpu_us())
        self.assertEqual([round(value, 6) for value in figure.values], [30, 60, 30])
        self.assertEqual(tuple(round(value, 6) for value in (figure.median, figure.least, figure.most)), (30, 30, 60))

    def test_the_origin_is_no_cost_of_a_peer(self):
        sample = self.result.samples("haproxy", "saturation-1k-64")[0]
        self.assertAlmostEqual(figures.cpu_us()(sample), 40)
        self.assertAlmostEqual(figures.cpu_us(figures.OF_THE_ORIGIN)(sample), 9000)

    def test_ratios_are_within_a_round(self):
        gateway = ("tidegate", "saturation-1k-64", figures.cpu_us(["gateway"]))
        ratio = self.result.ratio(gateway, ("haproxy", "saturation-1k-64", figures.cpu_us()))
        self.assertEqual([round(value, 9) for value in ratio.values], [0.25, 0.25, 0.25])

    def test_a_missing_peer_is_told_with_its_reason(self):
        for peer, case, reason in (("nginx", "download", "it ended:"), ("haproxy", "light", "status 503"),
                                   ("envoy", "light", "no part")):
            with self.assertRaisesRegex(figures.Missing, reason):
                self.result.figure(peer, case, figures.cpu_us())

    def test_curves_rise(self):
        curve = figures.percentile_curve(self.result.histogram("tidegate", "saturation-1k-64"))
        self.assertEqual(sorted(curve), curve)
        self.assertLess(curve[-1][0], 1)
        self.assertEqual(figures.quantile_us(self.result.histogram("tidegate", "saturation-1k-64"), 0.99), 990)
        thin = charts.thin(curve)
        self.assertEqual(sorted(thin), thin)

    def test_a_machine_that_was_not_quiet_is_told(self):
        self.assertTrue(tables.quiet(self.result)[1])
        for sample in self.result.data["samples"]:
            sample |= {"foreign_cores": 0.5, "stolen_cores": 0.0}
        sentence, is_quiet = tables.quiet(self.result)
        self.assertFalse(is_quiet)
        self.assertIn("0.50 cores", sentence)
        self.assertIn("not quiet", page.html(self.result))
        self.assertIn("kept, on a busy machine", tables.text(self.result))

    def test_cpu_for_a_gigabyte(self):
        self.assertAlmostEqual(self.result.figure("tidegate", "download", figures.cpu_s_per_gb()).median, 1.0)


class Samples(unittest.TestCase):
    RUN = {"requests": 10, "seconds": 2.0, "requests_per_second": 5.0, "statuses": {"200": 10}, "errors": {}, "histogram_us": [[5, 10]],
           "latency_us": {"p50": 5, "p90": 5, "p99": 5, "p99.9": 5, "max": 5}, "body_bytes_received": 100, "body_bytes_sent": 0,
           "handshakes_full": 1, "handshakes_resumed": 3, "unfinished": 1, "unfinished_longest_us": 10, "load": {"cpu_seconds": 1.0},
           "processes": [{"name": "nginx", "cpu_seconds": 0.5}, {"name": "nginx", "cpu_seconds": 0.25}]}

    def test_processes_of_one_name_are_added(self):
        sample = load.sample(self.RUN, "requests")
        self.assertEqual((sample["cpu_s"], sample["resumed_share"]), ({"nginx": 0.75}, 0.75))

    def test_a_transfer_counts_by_its_bytes(self):
        self.assertEqual(load.sample({**self.RUN, "requests": 0, "statuses": {}}, "transfer")["bytes"], 100)

    def test_whatever_failed_is_no_figure(self):
        for wrong in ({"statuses": {"200": 9, "502": 1}}, {"errors": {"timeout": 1}}, {"requests": 0, "statuses": {}},
                      {"unfinished_longest_us": 3_000_000}):
            with self.assertRaises(Failed):
                load.sample({**self.RUN, **wrong}, "requests")


class Promises(unittest.TestCase):
    def test_verdicts(self):
        said = {promise.what: verdict for promise, _, verdict in promises.judged(canned())}
        found = lambda part: next(verdict for what, verdict in said.items() if part in what)
        self.assertEqual(found("gateway's CPU a request, to HAProxy's"), "moonshot")
        self.assertEqual(found("CPU for 1 GB, download"), "kept")
        self.assertEqual(found("memory of an idle"), "missed")
        self.assertIn("took no part", found("reverse HTTP"))
        self.assertIn("status 503", found("p50 at 500"))


class Text(HTMLParser):
    """Collects a page's tags, and whether all that was opened is closed."""

    VOID = {"meta", "link", "br", "path"}

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()


class Page(unittest.TestCase):
    def test_text_is_escaped_and_nothing_is_fetched(self):
        text = page.html(canned())
        self.assertNotIn("<script>alert", text)
        self.assertIn("&lt;script&gt;alert", text)
        parsed = Text()
        parsed.feed(text)
        self.assertEqual(parsed.open, [])
        self.assertEqual([address for address in parsed.addresses if not address.startswith("#")], [])
        self.assertIsNone(re.search(r"url\(|@import", text))

    def test_every_case_and_promise_stands_on_it(self):
        result = canned()
        text, terminal = page.html(result), tables.text(result)
        for what in [case["title"] for case in result.data["cases"]] + [promise.what for promise in promises.promised()]:
            self.assertIn(charts.escape(what), text)
            self.assertIn(what, terminal)

    def test_a_peer_that_was_left_out_is_told_once(self):
        before_the_promises = tables.text(canned()).split("Promises, all")[0]
        self.assertEqual(before_the_promises.count("left out: it ended:"), 1)

    def test_a_run_without_samples(self):
        result = canned()
        empty = figures.Result({**result.data, "samples": [], "saturation": {}})
        self.assertIn("not measured", page.html(empty))
        self.assertIn("not measured", tables.text(empty))


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(__import__(__name__, fromlist=["main"]))
    return 0 if unittest.TextTestRunner(verbosity=1).run(suite).wasSuccessful() else 1
