"""A result as one page that needs nothing else: promises, peers, each case drawn and in figures, configurations, commands."""

import pathlib

from . import charts, promises, tables
from .charts import css, escape
from .figures import UNASKED, client_bytes, cpu_s_per_gb, cpu_us, number, percentile_curve, plain

HERE = pathlib.Path(__file__).resolve().parent
CURVES = ("saturation", "rate", "tls12", "handshakes")



def drawn(measure):
    """[(heading, unit, of the whole, of one process or None)]: the bars of a measure's cases."""
    if measure == "transfer":
        return [("CPU seconds for 1 GB", "s", cpu_s_per_gb(), lambda name: cpu_s_per_gb([name])),
                ("GB/s", "GB/s", tables.gigabytes, None)]
    if measure == "memory":
        return [("Resident bytes a client", "bytes", client_bytes, lambda name: lambda one: one["bytes_a_client"][name])]
    if measure == "held":
        return [("Connections", "", plain("sockets"), lambda name: plain(name))]
    what = "handshake" if measure == "handshakes" else "request"
    cpu = (f"CPU µs a {what}, of all its processes", "µs", cpu_us(), lambda name: cpu_us([name]))
    if measure == "rate":
        return [cpu, ("p50, ms", "ms", plain("p50_ms"), None), ("p99, ms", "ms", plain("p99_ms"), None)]
    return [cpu, (f"{what.title()}s a second", "/s", plain("rate"), None)]


def chart(result, case, unit, whole, part):
    rows = []
    for name in result.measured(case["key"]):
        peer = result.peers[name]
        names = ["links", "upstream"] if case["measure"] == "held" else peer.get("processes", [])
        parts = [(one, result.figure(name, case["key"], part(one)).median) for one in names] if part else []
        figure = result.figure(name, case["key"], whole)
        rows.append((name, peer["title"], parts or [("", figure.median)], figure))
    return charts.bars(rows, unit)


def figures_table(result, case):
    headings, rows = tables.table(result, case)
    if not rows:
        return f"<p>{UNASKED} in this run</p>"
    head = "".join(f"<th>{escape(heading)}</th>" for heading in ["", *headings])
    body = []
    for name, figures, _, reason in rows:
        who = f'<td><i class="mark"></i>{escape(result.peers[name]["title"])}</td>'
        if reason is not None:
            body.append(f'<tr class="{css(name)}">{who}<td class="reason" colspan="{len(headings)}">{escape(reason)}</td></tr>')
            continue
        cells = "".join(f"<td>{number(one and one.median)}<small>{spread(one)}</small></td>" for one in figures)
        body.append(f'<tr class="{css(name)}">{who}{cells}</tr>')
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def spread(figure):
    return "" if figure is None or figure.least == figure.most else f"{number(figure.least)} – {number(figure.most)}"


def case_card(result, case):
    bars = "".join(f"<div><h4>{escape(heading)}</h4>{drawing}</div>" for heading, unit, whole, part in drawn(case["measure"])
                   if (drawing := chart(result, case, unit, whole, part)))
    curves = ""
    if case["measure"] in CURVES:
        curves = charts.percentiles(
            [(name, result.peers[name]["title"],
              [(q, us / 1000) for q, us in percentile_curve(counts)])
             for name in result.measured(case["key"]) if (counts := result.histogram(name, case["key"]))], case["title"])
    return (f'<section class="card"><h3>{escape(case["title"])}</h3><div class="charts">{bars}</div>{curves}'
            f'<h4>Medians, and the least and most of the rounds</h4>{figures_table(result, case)}</section>')


def promises_section(result):
    rows = []
    for promise, figure, verdict in promises.judged(result):
        what = (f'<td class="text">{escape(promise.what)}</td><td data-is="at most">{promise.at_most:g}</td>'
                f'<td data-is="moonshot">{promise.moonshot:g}</td>')
        if figure is None:
            rows.append(f'<tr>{what}<td class="reason" colspan="3">{escape(verdict)}</td></tr>')
            continue
        rows.append(f"<tr>{what}<td>{number(figure.median, promise.unit)}<small>{spread(figure)}</small></td>"
                    f"<td>{charts.promise_scale(promise, figure)}</td>"
                    f'<td class="verdict {verdict}">{verdict}</td></tr>')
    return ('<h2 id="promises">Promises</h2><p>What Tidegate promises beside its peers, measured in this run alone. A ratio is taken '
            "within each round; the median of the rounds counts. On the scale the light part is the promise, the dark part where "
            'it should go (“moonshot”), dots are rounds, the line is their median.</p><section class="card"><div class="wide"><table class="promises">'
            '<thead><tr><th class="text"></th><th>at most</th><th>moonshot</th><th>measured</th><th></th><th></th></tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div></section>')


def peers_section(result):
    rows = []
    for name, peer in result.peers.items():
        said = escape(peer["version"])
        if peer["left_out"]:
            said += f'<small>left out: {escape(peer["left_out"].strip())}</small>'
        if peer.get("ciphers"):
            said += f'<small>{escape(", ".join(peer["ciphers"].values()))}</small>'
        carried = result.data.get("saturation", {}).get(name)
        peaks = ", ".join(f"{process} {number(mib)}" for process, mib in peer.get("peak_mib", {}).items())
        rows.append(f'<tr class="{css(name)}"><td><i class="mark"></i>{escape(peer["title"])}</td><td class="text">{escape(peer["what"])}'
                    f'</td><td class="text">{said}</td><td>{number(carried)}</td><td class="text">{escape(peaks) or "–"}</td></tr>')
    return ('<h2 id="peers">Peers</h2><p>Plain proxies carry no tunnel: they are the least that ending TLS costs, with the origin in '
            "reach. Tunnels are dialled from inside. All lead to the same nginx over HTTP/1.1 with kept connections, and were "
            'looked at before: right bytes, bodies read whole, connections kept.</p><section class="card"><div class="wide"><table class="peers"><thead><tr>'
            '<th></th><th class="text">what it is here</th><th class="text">version</th><th>when first loaded,<br>requests/s</th>'
            '<th class="text">peak memory, MiB</th></tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div></section>')


def setup_section(result):
    data, machine = result.data, result.data["machine"]
    rows = [("command", data["command"]), ("when", data["created"]), ("cpu", f'{machine["cpu"]}, {machine["cores"]} cores'),
            ("memory", f'{machine["memory_gib"]} GiB'), ("kernel", machine["kernel"]), ("system", machine["system"]),
            ("mitigations", ", ".join(machine["mitigations"]) or "none"),
            ("rounds", data["options"]["rounds"]), ("threads of a peer's process", data["options"]["shards"]),
            ("access logs", data["options"]["logs"]),
            ("cores", "load and origin on the first core, the peers on the others" if data["options"]["pin"] else "as the kernel chooses")]
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    files = [("origin.conf", "The origin", data["origin"])]
    files += [(file, peer["title"], text) for peer in data["peers"] for file, text in peer.get("configs", {}).items()]
    configs = "".join(f"<details><summary>{escape(who)}: {escape(file)}</summary><pre>{escape(text)}</pre></details>" for file, who, text in files)
    started = "\n".join(command for peer in data["peers"] for command in peer.get("commands", []))
    lines = "".join(
        f"<details><summary>{escape(case['title'])}</summary><pre>{escape(chr(10).join(case['commands'].values()))}</pre></details>"
        for case in data["cases"] if case.get("commands"))
    notes = "".join(f"<li>{escape(result.peers[note['peer']]['title'])}, {escape(note['case'] or 'in general')}: {escape(note['text'])}</li>"
                    for note in data["notes"])
    return (f'<h2 id="setup">How it was measured</h2><section class="card"><dl>{facts}</dl></section>'
            f"<h3>Configurations, whole</h3>{configs}<details><summary>How the peers were started</summary><pre>{escape(started)}</pre></details>"
            f"<h3>Loads, one line a peer</h3>{lines}"
            + (f"<h3>What could not be measured</h3><ul>{notes}</ul>" if notes else ""))


def lead(result):
    data, (sentence, is_quiet) = result.data, tables.quiet(result)
    names = [f'“{peer["title"]}”' if "," in peer["title"] else peer["title"] for peer in data["peers"] if not peer["left_out"]]
    return (f'<h1>Tidegate beside its peers</h1><p class="lead">The same work through {escape(", ".join(names[:-1]))}'
            f'{" and " if len(names) > 1 else ""}{escape(names[-1] if names else "nothing")}, in turn, in {data["options"]["rounds"]} '
            f'round(s) on one machine: {escape(data["machine"]["cpu"])}, {data["machine"]["cores"]} cores, {escape(data["created"][:10])}.</p>'
            '<p class="soft">Load generator, origin and servers share these cores, and loopback hides the network. So CPU time by the kernel’s '
            "count and ratios within the run say much; requests a second say what was left of the cores.</p>"
            f'<p class="{"soft" if is_quiet else "loud"}">{escape(sentence)}</p>')


def html(result):
    sections, heading = [], None
    for case in result.data["cases"]:
        if case["measure"] != heading:
            heading = case["measure"]
            sections.append(f'<h2 id="{heading}">{escape(tables.HEADINGS[heading])}</h2><p>{escape(tables.EXPLANATIONS[heading])}</p>')
        sections.append(case_card(result, case))
    measures = dict.fromkeys(case["measure"] for case in result.data["cases"])
    links = [("promises", "Promises"), ("peers", "Peers"), *((name, tables.HEADINGS[name]) for name in measures),
             ("setup", "How it was measured")]
    nav = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in links)
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<title>Tidegate beside its peers</title><style>{(HERE / "page.css").read_text()}</style></head><body>{lead(result)}'
            f'<nav>{nav}</nav>{promises_section(result)}{peers_section(result)}{"".join(sections)}{setup_section(result)}'
            f'<script>{(HERE / "page.js").read_text()}</script></body></html>\n')
