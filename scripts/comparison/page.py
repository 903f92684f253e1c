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
            reason = f'<td class="reason" colspan="{len(headings)}">{escape(reason)}</td>'
            body.append(f'<tr class="{css(name)}">{who}{reason}</tr>')
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
    return card(f'<h3>{escape(case["title"])}</h3><div class="charts">{bars}</div>{curves}'
                f"<h4>Medians, and the least and most of the rounds</h4>{figures_table(result, case)}")


def titled(name, title, text):
    return f'<h2 id="{name}">{escape(title)}</h2><p>{escape(text)}</p>'


def card(content):
    return f'<section class="card">{content}</section>'


def words_table(kind, headings, rows):
    """A table with words in it; a heading that begins with `<` of a column of figures, the others of words."""
    head = "".join(f"<th>{escape(one[1:])}</th>" if one.startswith("<") else f'<th class="text">{escape(one)}</th>' for one in headings)
    return card(f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>')


def details(summary, text):
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


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
                    f'<td class="verdict {verdict}">{verdict}<small>{tables.busy(result, promise).lstrip(", ")}</small></td></tr>')
    text = ("What Tidegate promises beside its peers, measured in this run alone. A ratio is taken within each round; the median of "
            "the rounds counts. On the scale the light part is the promise, the dark part where it should go (“moonshot”); dots are "
            "rounds, the line is their median.")
    return titled("promises", "Promises", text) + words_table(
        "promises", ["", "<at most", "<moonshot", "<measured", "", ""], rows)


def peers_section(result):
    rows = []
    for name, peer in result.peers.items():
        said = escape(peer["version"])
        if peer["left_out"]:
            said += f'<small>left out: {escape(peer["left_out"].strip())}</small>'
        said += f'<small>{escape(", ".join(peer.get("ciphers", {}).values()))}</small>'
        peaks = ", ".join(f"{process} {number(mib)}" for process, mib in peer.get("peak_mib", {}).items())
        rows.append(f'<tr class="{css(name)}"><td><i class="mark"></i>{escape(peer["title"])}</td>'
                    f'<td class="text">{escape(peer["what"])}</td><td class="text">{said}</td>'
                    f'<td>{number(result.data["saturation"].get(name))}</td><td class="text">{escape(peaks) or "–"}</td></tr>')
    text = ("Plain proxies carry no tunnel: they are the least that ending TLS costs, with the origin in reach. Tunnels are dialled "
            "from inside. All lead to the same nginx over HTTP/1.1 with kept connections, and were looked at before: right bytes, "
            "bodies read whole, connections kept.")
    return titled("peers", "Peers", text) + words_table(
        "peers", ["", "what it is here", "version, and the ciphers agreed on", "<first load, requests/s", "peak memory, MiB"], rows)


def facts(result):
    data, machine, options = result.data, result.data["machine"], result.data["options"]
    pinned = "load and origin on the first core, the peers on the others" if options["pin"] else "as the kernel chooses"
    rows = [("command", data["command"]), ("when", data["created"]), ("CPU", f'{machine["cpu"]}, {machine["cores"]} cores'),
            ("memory", f'{machine["memory_gib"]} GiB'), ("kernel", machine["kernel"]), ("system", machine["system"]),
            ("mitigations", ", ".join(machine["mitigations"]) or "none"), ("quiet", tables.quiet(result)[0]),
            ("rounds", options["rounds"]), ("threads of a peer's process", options["shards"]),
            ("threads of the load generator", options["load_shards"]), ("access logs", options["logs"]), ("cores", pinned)]
    return card("<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows) + "</dl>")


def setup_section(result):
    data = result.data
    configs = details("The origin: origin.conf", data["origin"]) + "".join(
        details(f'{peer["title"]}: {file}', text) for peer in data["peers"] for file, text in peer.get("configs", {}).items())
    started = details("How the peers were started", "\n".join(line for peer in data["peers"] for line in peer.get("commands", [])))
    loads = "".join(details(case["title"], "\n".join(case["commands"].values())) for case in data["cases"] if case["commands"])
    notes = "".join(f"<li>{escape(result.peers[note['peer']]['title'])}, {escape(note['case'] or 'in general')}: "
                    f"{escape(note['text'])}</li>" for note in data["notes"])
    failed = f"<h3>What could not be measured</h3><ul>{notes}</ul>" if notes else ""
    return (f'<h2 id="setup">How it was measured</h2>{facts(result)}<h3>Configurations, whole</h3>{configs}{started}'
            f"<h3>Loads, one line a peer</h3>{loads}{failed}")


def lead(result):
    data, (sentence, is_quiet) = result.data, tables.quiet(result)
    names = [f"“{peer['title']}”" if "," in peer["title"] else peer["title"] for peer in data["peers"] if not peer["left_out"]]
    through = f'{", ".join(names[:-1])} and {names[-1]}' if len(names) > 1 else "".join(names) or "nothing"
    machine, rounds = data["machine"], data["options"]["rounds"]
    return ("<h1>Tidegate beside its peers</h1>"
            f'<p class="lead">The same work through {escape(through)}, in turn, in {rounds} round{"s" if rounds > 1 else ""} '
            f'on one machine: {escape(machine["cpu"])}, {machine["cores"]} cores, {escape(data["created"][:10])}.</p>'
            '<p class="soft">Load generator, origin and servers share these cores, and loopback hides the network. So CPU time by '
            "the kernel’s count and ratios within the run say much; requests a second say what was left of the cores.</p>"
            f'<p class="{"soft" if is_quiet else "loud"}">{escape(sentence)}</p>')


def html(result):
    sections, heading = [], None
    for case in result.data["cases"]:
        if case["measure"] != heading:
            heading = case["measure"]
            sections.append(titled(heading, tables.HEADINGS[heading], tables.EXPLANATIONS[heading]))
        sections.append(case_card(result, case))
    measures = dict.fromkeys(case["measure"] for case in result.data["cases"])
    links = [("promises", "Promises"), ("peers", "Peers"), *((name, tables.HEADINGS[name]) for name in measures),
             ("setup", "How it was measured")]
    nav = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in links)
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Tidegate beside its peers</title>'
            f'<style>{(HERE / "page.css").read_text()}</style></head><body>{lead(result)}<nav>{nav}</nav>'
            f'{promises_section(result)}{peers_section(result)}{"".join(sections)}{setup_section(result)}'
            f'<script>{(HERE / "page.js").read_text()}</script></body></html>\n')
