"""The tables of a result: which columns each measure has. The terminal and the page show the same ones."""

from . import promises
from .figures import OF_THE_ORIGIN, UNASKED, Missing, client_bytes, cpu_s_per_gb, cpu_us, number, plain

# Above this the machine had something else to do.
QUIET_CORES = 0.1
HEADINGS = {
    "saturation": "As many requests as go",
    "rate": "At a fixed rate",
    "tls12": "TLS 1.2",
    "handshakes": "Handshakes",
    "transfer": "Large bodies",
    "memory": "Idle clients",
    "held": "Held requests",
}
EXPLANATIONS = {
    "saturation": "Closed loop: each connection asks again when its answer is there. Latency is what the queue before the "
                  "busiest process makes it.",
    "rate": "Open loop: requests are due at fixed times, and latency counts from when each was due, so that a stall shows in "
            "all that it delayed.",
    "tls12": "The first case again over TLS 1.2: ECDHE-ECDSA and AES-256-GCM, as the list of peers says what was agreed on.",
    "handshakes": "Connections that end after the handshake; latency from the dial to the handshake's end.",
    "transfer": "Bytes of bodies. CPU is for 1 GB, 1e9 bytes.",
    "memory": "Growth of resident memory by the client, of peers that were just started; the kernel's column holds both ends "
              "of each connection.",
    "held": "TCP connections that the inner side holds for requests that the upstream leaves unanswered.",
}


def gigabytes(sample):
    return sample["bytes"] / sample["seconds"] / 1e9


def load_us(sample):
    """The load generator's own CPU, where it is known: wrk's is not."""
    return 1e6 * sample["load_cpu_s"] / sample["requests"] if sample.get("load_cpu_s") else None


def columns(measure, result, peer):
    """[(heading, of)] of the figures; a peer's processes are the last ones, as [(process, of)]."""
    processes = result.peers[peer].get("processes", [])
    if measure == "transfer":
        return ([("GB/s", gigabytes), ("CPU s/GB", cpu_s_per_gb())],
                [(name, cpu_s_per_gb([name])) for name in processes])
    if measure == "memory":
        return ([("bytes a client", client_bytes), ("kernel, both ends", plain("kernel_bytes_a_client"))],
                [(name, lambda sample, name=name: sample["bytes_a_client"][name]) for name in processes])
    if measure == "held":
        return ([("held", plain("held")), ("connections", plain("sockets")), ("to the outer side", plain("links")),
                 ("to the upstream", plain("upstream"))], [])
    what = "a handshake" if measure == "handshakes" else "a request"
    rate = "handshakes/s" if measure == "handshakes" else "requests/s"
    return ([(rate, plain("rate")), ("p50 ms", plain("p50_ms")), ("p99 ms", plain("p99_ms")), ("p99.9 ms", plain("p999_ms")),
             (f"CPU µs {what}", cpu_us()), ("origin's", cpu_us(OF_THE_ORIGIN)), ("load's", load_us)],
            [(name, cpu_us([name])) for name in processes])


def table(result, case):
    """(headings, rows): a row is (peer, figures by heading, [(process, figure)], None) or (peer, None, None, reason). Peers of
    which the case was not asked have no row."""
    headings, rows = [], []
    for name, peer in result.peers.items():
        main, parts = columns(case["measure"], result, name)
        headings = headings or [heading for heading, _ in main]
        try:
            rows.append((name, [result.figure_or_none(name, case["key"], of) for _, of in main],
                         [(process, result.figure(name, case["key"], of)) for process, of in parts], None))
        except Missing as reason:
            if str(reason).startswith(UNASKED):
                continue
            rows.append((name, None, None, str(reason)))
    return headings, rows


def quiet(result):
    """(sentence, whether the machine was quiet) about what else it did while it was measured."""
    seen = result.disturbed()
    if not seen:
        return "What else the machine did is not known.", True
    median, most, stolen = seen
    if median <= QUIET_CORES and stolen <= QUIET_CORES * 2:
        return f"The machine was quiet: other processes took {median:.2f} cores (median of samples; most {most:.2f}).", True
    return (f"The machine was not quiet: other processes took {median:.2f} cores (median of samples; most {most:.2f}), the "
            f"hypervisor at most {stolen:.2f}. Times and absolute figures are worse than they would be; ratios hold better."), False


def busy(result, promise):
    """What a verdict on CPU time must be taken with."""
    return "" if quiet(result)[1] or not promise.of_time else ", on a busy machine"


def grid(headings, rows):
    """Lines of a table whose first column is text and whose others are numbers."""
    widths = [max(len(str(row[n])) for row in [headings, *rows] if n < len(row)) for n in range(len(headings))]
    lines = []
    for row in [headings, *rows]:
        cells = [str(cell).ljust(width) if not n else str(cell).rjust(width) for n, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  " + "  ".join(cells).rstrip())
    lines.insert(1, "  " + "  ".join("─" * width for width in widths))
    return [line.rstrip() for line in lines]


def text(result):
    """The whole result for a terminal."""
    lines, heading = [], None
    for case in result.data["cases"]:
        if case["measure"] != heading:
            heading = case["measure"]
            lines += ["", f"{HEADINGS[heading]}. {EXPLANATIONS[heading]}"]
        headings, rows = table(result, case)
        shown = [[result.peers[name]["title"], *(number(figure and figure.median) for figure in figures),
                  ", ".join(f"{process} {number(figure.median)}" for process, figure in parts) if len(parts) > 1 else ""]
                 for name, figures, parts, reason in rows if reason is None]
        lines += ["", f"  {case['title']}"]
        if not rows:
            lines.append(f"  {UNASKED} in this run")
        if shown:
            lines += grid(["", *headings, "of which" if any(row[-1] for row in shown) else ""], shown)
        lines += [f"  – {reason.splitlines()[0]}" for *_, reason in rows if reason is not None]
    return "\n".join([*lines, "", *promise_lines(result), "", quiet(result)[0]])


def promise_lines(result):
    rows = []
    for promise, figure, verdict in promises.judged(result):
        measured = number(figure.median, promise.unit) if figure else "–"
        spread = f"{number(figure.least)} … {number(figure.most)}" if figure else ""
        rows.append([promise.what, f"{promise.at_most:g}", f"{promise.moonshot:g}", measured, spread,
                     verdict + busy(result, promise) if figure else "not measured"])
    lines = ["Promises, all within this run", "", *grid(["", "at most", "moonshot", "measured", "rounds", ""], rows)]
    reasons = [(promise.what, verdict) for promise, figure, verdict in promises.judged(result)
               if not figure and not verdict.startswith(UNASKED)]
    return lines + [f"  – {what}: {verdict}" for what, verdict in reasons]
