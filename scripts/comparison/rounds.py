"""The run: peers are started and looked at, loaded once to see what they can, then measured in turn."""

import contextlib
import shutil
import sys
import time

from . import lab, load, look, measures, peers
from .origin import Origin

READY_SECONDS = 15
FAILURES = 2


def say(text):
    print(text, file=sys.stderr, flush=True)


def first(text, width=110):
    """The first line of an error, for a line of progress."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= width else line[:width] + "…"


class Run:
    """One comparison: `peers` that take part, `left_out` of those that do not with the reason, samples, notes."""

    def __init__(self, options, place):
        self.options, self.place = options, place
        self.started, self.described, self.samples, self.notes, self.lines = {}, [], [], [], {}
        self.saturation = {}
        self.context = measures.Context(options, self.saturation, self.fresh)
        self.origin = Origin(place)

    def start_peers(self):
        for kind in peers.ALL:
            if self.options.only and kind.name not in self.options.only:
                continue
            described = {"name": kind.name, "title": kind.title, "what": kind.what, "tunnel": kind.tunnel,
                         "inside": list(kind.inside), "version": "", "left_out": None}
            self.described.append(described)
            peer = None
            try:
                described["version"] = kind.version(self.options)
                peer = self.started[kind.name] = self.begin(kind)
                say(f"compare: {kind.title}: {described['version']}")
                self.calibrate(peer)
            except lab.Failed as error:
                described["left_out"] = str(error)
                self.started.pop(kind.name, None)
                say(f"compare: {kind.title} is left out: {error}")
                if peer:
                    peer.stop()
                continue
            described |= {"ciphers": look.ciphers(peer), "processes": list(peer.processes), "configs": peer.configs,
                          "commands": peer.commands}

    def begin(self, kind, origin=None):
        """Starts one, and waits until it answers as it must."""
        peer = kind(self.place, origin or self.origin, self.options)
        try:
            peer.start()
            deadline = time.monotonic() + READY_SECONDS
            while True:
                try:
                    look.whole(peer)
                    return peer
                except lab.Failed as error:
                    if time.monotonic() > deadline:
                        raise lab.Failed(f"{error}\n{peer.log_tail()}") from None
                    time.sleep(0.2)
        except BaseException:
            peer.stop()
            raise

    @contextlib.contextmanager
    def fresh(self, peer, origin=None):
        """Another one of the same kind, just started."""
        new = self.begin(type(peer), origin)
        try:
            yield new
        finally:
            new.stop()

    def calibrate(self, peer):
        """Warms a peer up, and sees how much it carries, the better of two runs: the base of the rates that are parts of it."""
        seconds = measures.QUICK_SECONDS if self.options.quick else 3
        for _ in range(2):
            sample, _ = load.run(peer, "requests", "/bench/1k", seconds, 0.3, ["--connections", measures.BUSY])
            self.saturation[peer.name] = max(sample["rate"], self.saturation.get(peer.name, 0))

    def plan(self, cases):
        """[(round, case, peer)]: case by case, the order of the peers rotating."""
        steps, names = [], list(self.started)
        for number in range(self.options.rounds):
            for place, case in enumerate(cases):
                if self.options.quick and number >= case.quick_rounds:
                    continue
                turn = (number + place) % max(len(names), 1)
                steps += [(number, case, name) for name in case.peers(self.options, names[turn:] + names[:turn])]
        return steps

    def measure(self, cases):
        steps = self.plan(cases)
        weight = [self.context.seconds(case) + self.context.warm_up(case) + case.extra_seconds for _, case, _ in steps]
        began, done, failures = time.monotonic(), 0.0, {}
        for index, (number, case, name) in enumerate(steps):
            left = sum(weight[index:]) * ((time.monotonic() - began) / done if index > 3 and done else 1)
            head = f"[{index + 1}/{len(steps)}, {left / 60:4.1f} min left] round {number + 1}  {case.key:22} {name:16}"
            done += weight[index]
            if failures.get((case.key, name), 0) >= FAILURES or name not in self.started:
                continue
            try:
                sample, line = case.run(self.context, case, self.started[name])
            except (lab.Failed, OSError) as error:
                failures[case.key, name] = failures.get((case.key, name), 0) + 1
                self.notes.append({"peer": name, "case": case.key, "round": number, "text": str(error)})
                say(f"{head} {first(str(error))}")
                self.alive(name)
                continue
            if self.options.keep and load.result_file(self.place).exists():
                shutil.move(load.result_file(self.place), self.options.keep / f"{case.key}.{name}.{number + 1}.json")
            self.lines.setdefault(case.key, {}).setdefault(name, line)
            self.samples.append({"peer": name, "case": case.key, "round": number, "order": index, **sample})
            say(f"{head} {short(sample)}")

    def peaks(self):
        """The most memory that each process ever had."""
        for described in self.described:
            peer = self.started.get(described["name"])
            if peer:
                described["peak_mib"] = {name: sum(lab.rss_kib(pid, "VmHWM:") for pid in ids) / 1024
                                         for name, ids in peer.processes.items()}

    def alive(self, name):
        """A peer whose process has ended takes no further part."""
        peer = self.started[name]
        for server in peer.servers:
            if server.process.poll() is not None:
                self.notes.append({"peer": name, "case": None, "round": None, "text":
                                   f"{server.name} ended with {server.process.returncode}:\n{lab.tail(server.log)}"})
                say(f"compare: {name} is left out from here: {server.name} has ended")
                peer.stop()
                del self.started[name]
                return


def short(sample):
    """A sample in one line of progress."""
    if "bytes_a_client" in sample:
        return ", ".join(f"{name} {value:.0f} B" for name, value in sample["bytes_a_client"].items()) + " a client"
    if "sockets" in sample:
        return f"{sample['sockets']} connections for {sample['held']} held ({sample['links']} links)"
    cpu = sum(value for name, value in sample["cpu_s"].items() if name not in ("origin", "upstream"))
    if sample["kind"] == "transfer":
        return f"{sample['bytes'] / sample['seconds'] / 1e9:.2f} GB/s, {cpu / (sample['bytes'] / 1e9):.2f} CPU s/GB"
    return (f"{sample['rate']:7.0f}/s  p50 {sample['p50_ms']:.2f}  p99 {sample['p99_ms']:.2f} ms  "
            f"{1e6 * cpu / sample['requests']:.1f} µs CPU")
