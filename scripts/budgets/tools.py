"""Who measures what. A tool makes steps, each one or more commands that measure several sources at once; after them it reads
the figures. It also knows, without running anything, whether it can ever measure a name."""

import dataclasses
import json
import os
import pathlib
import re
import shlex

from comparison import figures, promises

from .read import ROOT, name_of, tool_of

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RELEASE = ["cargo", "build", "--release", "--locked"]
# Of a build that starts from nothing, which may come before any step.
BUILD_SECONDS = 1800


class Unread(Exception):
    """There is no figure for a source; the text says why."""


@dataclasses.dataclass(frozen=True)
class Step:
    """Commands, the sources they measure, and `read(since)`: {source: figure, or Unread}, of files written after `since`.
    `seconds` is about how long it takes when everything is built. `may_fail`: an exit status other than 0 can mean that a
    figure is bad, and says nothing about whether it is there."""

    title: str
    commands: list
    sources: list
    seconds: float
    read: object
    programs: tuple = ()
    may_fail: bool = False


def text_of(path):
    return path.read_text() if path.is_file() else None


def written(path, since):
    """The JSON that a step wrote."""
    if not path.is_file() or path.stat().st_mtime < since:
        raise Unread("it wrote no figures")
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise Unread(f"{path.name} is not whole") from None


def each(sources, figure):
    """{source: figure(name)}, with the reason where there is none."""
    found = {}
    for source in sources:
        try:
            found[source] = figure(name_of(source))
        except Unread as reason:
            found[source] = reason
    return found


class Criterion:
    """criterion:FILE/ID: the median, in ns, of benchmark ID of benches/FILE.rs."""

    name = "criterion"

    def knows(self, name, budget):
        file, _, id_ = name.partition("/")
        text = text_of(ROOT / "benches" / f"{file}.rs")
        if text is None or f'name = "{file}"' not in (ROOT / "Cargo.toml").read_text():
            return f"there is no bench {file}"
        plain = text.replace("_", "")
        # Ids are put together from a group's name, a suite's, a size: their parts stand in the file.
        missing = [part for part in id_.split("/") if id_ not in text and part.replace("_", "") not in plain]
        return f"benches/{file}.rs has no benchmark {id_}" if missing or not id_ else None

    def steps(self, budgets, options, folder):
        files = {}
        for source in sources_of(self.name, budgets):
            files.setdefault(name_of(source).partition("/")[0], []).append(source)
        for file, sources in sorted(files.items()):
            ids = [re.escape(name_of(source).partition("/")[2]) for source in sources]
            command = ["cargo", "bench", "--locked", "--bench", file, "--", "--warm-up-time", "1", "--measurement-time", "2",
                       f"^(?:{'|'.join(ids)})$"]
            yield Step(f"cargo bench --bench {file}", [command], sources, 10 + 5 * len(sources),
                       lambda since, sources=sources: each(sources, lambda name: self.figure(name, since)))

    def figure(self, name, since):
        id_ = name.partition("/")[2]
        for path in (TARGET / "criterion").glob("**/new/benchmark.json"):
            if path.stat().st_mtime >= since and json.loads(path.read_text()).get("full_id") == id_:
                return written(path.with_name("estimates.json"), since)["median"]["point_estimate"]
        raise Unread("no benchmark of that name was run")


class Instructions:
    """instructions:CASE/gateway or …/connector: instructions a request, by benches/instructions.rs."""

    name = "instructions"
    sides = ("gateway", "connector")

    def knows(self, name, budget):
        case, _, side = name.rpartition("/")
        text = text_of(ROOT / "benches" / "instructions.rs") or ""
        if side not in self.sides or f'name: "{case}"' not in text:
            return f"benches/instructions.rs has no case {name}"
        return None

    def steps(self, budgets, options, folder):
        sources = sources_of(self.name, budgets)
        if sources:
            file = folder / "instructions.json"
            command = ["cargo", "bench", "--locked", "--bench", "instructions", "--", "--json", str(file)]
            yield Step("cargo bench --bench instructions", [command], sources, 150,
                       lambda since: each(sources, self.figures(written(file, since))), ("valgrind",))

    @staticmethod
    def figures(data):
        found = {f"{row['case']}/{side}": row[side] for row in data["instructions_a_request"] for side in Instructions.sides}

        def figure(name):
            if name not in found:
                raise Unread("no such case was counted")
            return found[name]

        return figure


class Handshake:
    """handshake:memory and handshake:socket: µs, by benches/handshake.rs."""

    name = "handshake"

    def knows(self, name, budget):
        return None if name in ("memory", "socket") else "benches/handshake.rs prints memory and socket"

    def steps(self, budgets, options, folder):
        sources = sources_of(self.name, budgets)
        if sources:
            log = folder / "handshake.txt"
            command = f"cargo bench --locked --bench handshake > {shlex.quote(str(log))}"
            yield Step("cargo bench --bench handshake", [["sh", "-c", command]], sources, 30,
                       lambda since: each(sources, self.figures(text_of(log) or "")))

    @staticmethod
    def figures(text):
        def figure(name):
            found = re.search(rf"^handshake/{re.escape(name)}: ([\d.]+) µs", text, re.MULTILINE)
            if not found:
                raise Unread("it printed no such line")
            return float(found[1])

        return figure


class Compare:
    """compare:NAME: the median over rounds of a promise of scripts/comparison/promises.py. Of the peers those run that
    promises are about."""

    name = "compare"
    peers = ("tidegate", "nginx", "haproxy", "haproxy-reverse")

    def knows(self, name, budget):
        return None if name in promises.FIGURES else f"scripts/comparison/promises.py has no figure {name}"

    def steps(self, budgets, options, folder):
        sources = sources_of(self.name, budgets)
        if sources:
            file = folder / "compare.json"
            flags = [*([] if options.long else ["--quick"]), *(["--fetch"] if options.fetch else [])]
            only = [part for peer in self.peers for part in ("--only", peer)]
            command = [str(ROOT / "scripts" / "compare"), *flags, *only, "--json", str(file)]
            title = " ".join(["scripts/compare", *flags])
            yield Step(title, [command], sources, 1800 if options.long else 300,
                       lambda since: each(sources, self.figures(written(file, since), options.long)))

    @staticmethod
    def figures(data, is_long):
        result = figures.Result(data)

        def figure(name):
            try:
                return promises.FIGURES[name](result).median
            except figures.Missing as reason:
                asked = str(reason).startswith(figures.UNASKED) and not is_long
                raise Unread("not part of --quick: --long" if asked else str(reason)) from None

        return figure


class HoldChannels:
    """hold-channels:NAME: a figure of scripts/hold-channels, run as the budget's `held_by` says."""

    name = "hold-channels"
    command = "scripts/hold-channels"

    def knows(self, name, budget):
        if not (budget.held_by or "").startswith(self.command):
            return f"`held_by` does not say with which {self.command}"
        text = (ROOT / self.command).read_text()
        plain = name.removesuffix("_tls12")
        return None if f'"{plain}' in text else f"{self.command} has no figure {name}"

    def steps(self, budgets, options, folder):
        if not (options.long or options.only):
            return
        commands = {}
        for budget in budgets:
            for source in budget.sources:
                if tool_of(source) == self.name:
                    commands.setdefault(budget.held_by, []).append(source)
        for number, (line, sources) in enumerate(sorted(commands.items())):
            file = folder / f"hold-channels-{number}.json"
            arguments = shlex.split(line)[1:]
            command = [str(ROOT / self.command), *arguments, "--figures", str(file)]
            yield Step(line, [RELEASE, command], sources, self.seconds(arguments),
                       lambda since, file=file, sources=sources: each(sources, self.figures(written(file, since))), may_fail=True)

    @staticmethod
    def seconds(arguments):
        """Opening goes at some 2,000 a second; then it holds."""
        numbers = []
        for argument in arguments:
            if not argument.isdigit():
                break
            numbers.append(int(argument))
        count, hold = (numbers + [20_000, 120][len(numbers):])[:2]
        return count / 2000 + hold + 30

    @staticmethod
    def figures(data):
        def figure(name):
            if not isinstance(data.get(name), (int, float)):
                raise Unread("this run had no such figure")
            return data[name]

        return figure


ALL = [Criterion(), Instructions(), Handshake(), Compare(), HoldChannels()]


def sources_of(tool, budgets):
    """Sources of a tool, each once, in the order of the budgets."""
    return list(dict.fromkeys(source for budget in budgets for source in budget.sources if tool_of(source) == tool))


def unknown(budget):
    """Why a budget can never be measured, or None."""
    tools = {tool.name: tool for tool in ALL}
    for source in budget.sources:
        tool = tools.get(tool_of(source))
        why = tool.knows(name_of(source), budget) if tool else f"there is no tool {tool_of(source)}"
        if why:
            return f"[{budget.name}]: {source}: {why}"
    return None


def steps(budgets, options, folder):
    return [step for tool in ALL for step in tool.steps(budgets, options, folder)]
