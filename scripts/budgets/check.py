"""`scripts/bench --check`: tuning/budgets.toml, verdicts, tables and steps on figures that are made up, nothing measured."""

import json
import pathlib
import re
import tempfile
import time
import types
import unittest

from comparison import peers, promises

from . import read, run, table, tools
from .tools import Unread

def options(**more):
    return types.SimpleNamespace(**{"long": False, "only": [], "fetch": False} | more)



def one(name="it", **more):
    """A budget as the file would have it."""
    plain = {"what": "what it is", "unit": "ns", "source": "handshake:memory", "at_most": 100, "goal": 50}
    return read.budget(name, {key: value for key, value in (plain | more).items() if value is not None})


class File(unittest.TestCase):
    """tuning/budgets.toml itself."""

    def test_every_budget_has_a_source_that_a_tool_knows(self):
        budgets = read.load()
        self.assertGreater(len(budgets), 40)
        self.assertEqual([why for why in map(tools.unknown, budgets) if why], [])

    def test_every_promise_of_the_comparison_is_one(self):
        names = {read.name_of(source) for budget in read.load() for source in budget.sources if read.tool_of(source) == "compare"}
        self.assertEqual(names, set(promises.FIGURES))

    def test_every_case_of_instructions_is_promised_for_both_sides(self):
        text = (read.ROOT / "benches" / "instructions.rs").read_text()
        cases = re.findall(r'^        name: "(.*)",$', text, re.MULTILINE)
        self.assertGreater(len(cases), 0)
        wanted = {f"{case}/{side}" for case in cases for side in tools.Instructions.sides}
        sources = tools.sources_of("instructions", read.load())
        self.assertEqual({read.name_of(source) for source in sources}, wanted)

    def test_what_was_measured_keeps_the_promise(self):
        for name, values in read.tables().items():
            if "measured" in values:
                self.assertTrue(read.budget(name, values).keeps(values["measured"], read.budget(name, values).limit), name)

    def test_every_budget_is_measured_by_some_step_when_all_runs(self):
        budgets = read.load()
        with tempfile.TemporaryDirectory() as folder:
            steps = tools.steps(budgets, options(long=True), pathlib.Path(folder))
        measured = {source for step in steps for source in step.sources}
        self.assertEqual({source for budget in budgets for source in budget.sources} - measured, set())


class Wrong(unittest.TestCase):
    def test_a_budget_that_cannot_be_held_is_refused(self):
        for wrong in ({"source": None}, {"source": "handshake"}, {"source": "handshake:"}, {"unit": None}, {"at_most": None},
                      {"at_least": 3}, {"at_most": "3"}, {"goal": 101}, {"atmost": 3}):
            with self.assertRaises(read.Wrong, msg=str(wrong)):
                one(**wrong)

    def test_a_source_that_no_tool_knows_is_told(self):
        for source, why in (("stopwatch:it", "no tool stopwatch"), ("handshake:it", "prints"), ("compare:it", "no figure it"),
                            ("criterion:nothing/it", "no bench nothing"), ("criterion:record/seal/tls14/1024", "no benchmark"),
                            ("criterion:record", "no benchmark"), ("instructions:1 KiB, one connection/client", "no case"),
                            ("hold-channels:it", "held_by")):
            self.assertIn(why, tools.unknown(one(source=source)) or "", source)
        self.assertIn("no figure it", tools.unknown(one(source="hold-channels:it", held_by="scripts/hold-channels 10")))
        self.assertIn("no tool", tools.unknown(one(over="stopwatch:it")))
        self.assertIsNone(tools.unknown(one(over="criterion:record/seal/tls13-aes128/1024")))


class Verdicts(unittest.TestCase):
    def verdict(self, value, **more):
        return table.judge([one(**more)], {"handshake:memory": value})[0].verdict

    def test_at_most(self):
        for value, verdict in ((50, table.GOAL), (51, table.HOLDS), (100, table.HOLDS), (100.1, table.MISSED)):
            self.assertEqual(self.verdict(value), verdict)

    def test_at_least(self):
        for value, verdict in ((300, table.GOAL), (299, table.HOLDS), (100, table.HOLDS), (99, table.MISSED)):
            self.assertEqual(self.verdict(value, at_most=None, at_least=100, goal=300), verdict)

    def test_a_goal_that_is_the_promise_is_none(self):
        self.assertEqual(self.verdict(0, at_most=0, goal=0), table.HOLDS)
        self.assertEqual(self.verdict(0, goal=None), table.HOLDS)

    def test_a_quotient(self):
        budget = one(unit="ratio", over="handshake:socket", at_most=2, goal=None)
        rows = lambda over: table.judge([budget], {"handshake:memory": 30, "handshake:socket": over})
        self.assertEqual((rows(20)[0].measured, rows(20)[0].verdict), (1.5, table.HOLDS))
        self.assertEqual(rows(10)[0].verdict, table.MISSED)
        self.assertEqual((rows(0)[0].verdict, rows(0)[0].reason), (table.NOT_RUN, "handshake:socket is 0"))
        self.assertEqual(rows(Unread("it fell over"))[0].reason, "it fell over")

    def test_exit_status(self):
        good, bad = (table.judge([one()], {"handshake:memory": value}) for value in (10, 1000))
        absent = table.judge([one()], {})
        failed = [{"step": "it", "seconds": 1, "failed": "why", "foreign_cores": 0.0}]
        self.assertEqual([table.status(rows, told) for rows in (good, absent, bad) for told in ([], failed)], [0, 1, 0, 1, 2, 2])


class Shown(unittest.TestCase):
    def test_every_budget_has_a_line_with_its_verdict_and_reason(self):
        budgets = [one("small"), one("a_long_name", over="handshake:socket"), one("third", at_most=10, goal=None), one("fourth")]
        rows = table.judge(budgets[:1], {"handshake:memory": 42.123}) + table.judge(budgets[1:2], {"handshake:memory": 1.0})
        rows += table.judge(budgets[2:3], {"handshake:memory": 12345.6})
        rows += table.judge(budgets[3:], {"handshake:memory": Unread("it fell over")})
        told = [{"step": "compare", "seconds": 1, "failed": None, "foreign_cores": 0.7}]
        text = table.text(rows, told)
        lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
        self.assertRegex(lines["small"], r"≤ 100 +50 +42\.1 +ns +goal reached$")
        self.assertRegex(lines["a_long_name"], r"– +ns +not run \(needs --long\)$")
        self.assertRegex(lines["third"], r"≤ 10 +– +12,346 +ns +missed$")
        self.assertRegex(lines["fourth"], r"not run \(it fell over\)$")
        self.assertIn("1 hold (1 with their goal reached), 1 missed, 2 not run", text)
        self.assertIn("0.70 cores (compare)", text)
        self.assertNotIn("not quiet", table.text(rows, []))
        verdicts = [row["verdict"] for row in json.loads(json.dumps(table.as_json(rows)))]
        self.assertEqual(verdicts, [table.GOAL, table.NOT_RUN, table.MISSED, table.NOT_RUN])

    def test_numbers(self):
        shown = [table.number(value) for value in (None, 0, 3.0, 0.0123, 1.2345, 12.345, 123.45, 12345678.9)]
        self.assertEqual(shown, ["–", "0", "3", "0.0123", "1.23", "12.3", "123", "12,345,679"])


class Steps(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)
        self.folder = pathlib.Path(self.place.name)

    def run_steps(self, *steps):
        done = run.Run(list(steps), self.folder, tell=lambda text: None)
        done.all()
        return done

    def step(self, command, source, read=lambda since: {}, **more):
        return tools.Step("it", [["sh", "-c", command]], [source], 1, read, **more)

    def test_one_that_fails_is_told_and_the_next_one_goes_on(self):
        done = self.run_steps(
            self.step("echo first; echo it fell over; exit 3", "a:1"), self.step("true", "a:2", lambda since: {"a:2": 5.0}),
            tools.Step("it", [["./no-such-program"]], ["a:3"], 1, lambda since: {}),
            self.step("exit 1", "a:4", lambda since: {"a:4": 6.0}, may_fail=True),
            self.step("true", "a:5", lambda since: {"a:5": {}["median"]}))
        self.assertRegex(str(done.figures["a:1"]), "exit status 3: it fell over")
        self.assertEqual((done.figures["a:2"], done.figures["a:4"]), (5.0, 6.0))
        self.assertIn("No such file", str(done.figures["a:3"]))
        self.assertIn("cannot be read: KeyError", str(done.figures["a:5"]))
        self.assertEqual([bool(one["failed"]) for one in done.told], [True, False, True, False, True])

    def test_one_that_hangs_is_ended_with_all_that_it_started(self):
        before, tools_seconds = time.monotonic(), run.BUILD_SECONDS
        run.BUILD_SECONDS = -2.5
        try:
            done = self.run_steps(self.step("sleep 600 & sleep 600", "a:1"))
        finally:
            run.BUILD_SECONDS = tools_seconds
        self.assertIn("not done within", str(done.figures["a:1"]))
        self.assertLess(time.monotonic() - before, 10)

    def test_a_file_of_an_earlier_run_is_no_figure(self):
        file = self.folder / "it.json"
        file.write_text("{}")
        self.assertEqual(tools.written(file, time.time() - 5), {})
        for since, text in ((time.time() + 5, "{}"), (0, "{")):
            file.write_text(text)
            with self.assertRaises(Unread):
                tools.written(file, since)

    def test_criterion_is_asked_for_what_is_promised_alone(self):
        budgets = [one(source="criterion:record/seal/tls13-aes128/1024"), one(source="criterion:record/answer/64KiB"),
                   one(source="criterion:timer/timer/fire and set/1000")]
        first, second = tools.steps(budgets, options(), self.folder)
        pattern = re.compile(first.commands[0][-1])
        self.assertTrue(pattern.search("seal/tls13-aes128/1024") and pattern.search("answer/64KiB"))
        self.assertFalse(pattern.search("idle-seal/tls13-aes128/1024") or pattern.search("seal/tls13-aes128/10240"))
        self.assertIn("timer", second.commands[0])

    def test_the_comparison_runs_with_the_peers_of_promises(self):
        for asked, quick in ((options(), True), (options(long=True), False)):
            (step,) = tools.steps([one(source="compare:download_cpu")], asked, self.folder)
            self.assertEqual("--quick" in step.commands[0], quick)
        known = {peer.name for peer in peers.ALL}
        self.assertLessEqual(set(tools.Compare.peers), known)

    def test_what_takes_long_runs_when_it_is_asked_for(self):
        budgets = [one(source="hold-channels:channels_lost", held_by="scripts/hold-channels 1000000 1800")]
        self.assertEqual(tools.steps(budgets, options(), self.folder), [])
        for asked in (options(long=True), options(only=["it"])):
            self.assertIn("1000000", tools.steps(budgets, asked, self.folder)[0].commands[-1])
        self.assertEqual(tools.HoldChannels.seconds(["1000000", "1800"]), 2330)
        self.assertEqual(tools.HoldChannels.seconds(["35000", "--tls12"]), 167.5)

    def test_what_tools_print_is_read(self):
        handshake = tools.Handshake.figures("x\nhandshake/memory: 92.1 µs an opening (90.0 to 99.9)\n")
        self.assertEqual(handshake("memory"), 92.1)
        counted = {"instructions_a_request": [{"case": "1 KiB", "gateway": 5000.5, "connector": 6000.0}]}
        self.assertEqual(tools.Instructions.figures(counted)("1 KiB/connector"), 6000.0)
        for figure in (lambda: handshake("socket"), lambda: tools.Instructions.figures(counted)("2 KiB/gateway"),
                       lambda: tools.HoldChannels.figures({"a": []})("a")):
            self.assertRaises(Unread, figure)


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(__import__(__name__, fromlist=["main"]))
    return 0 if unittest.TextTestRunner(verbosity=1).run(suite).wasSuccessful() else 1
