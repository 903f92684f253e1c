"""Drawings of the page: bars in HTML, percentile curves in SVG. All text goes through `escape`; nothing is fetched."""

import html
import json
import math

from .figures import number

# Hue says whose program it is, a broken line that it is a tunnel; both are in the style sheet.
CLASSES = {"tidegate": "t", "nginx": "n", "haproxy": "h", "haproxy-reverse": "h r", "envoy": "e", "envoy-reverse": "e r",
           "rathole": "o"}
QUANTILES = (0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 330, 58, 16, 14, 40
SHADES = (1.0, 0.62, 0.38)


def escape(text):
    return html.escape(str(text), quote=True)


def css(peer):
    return CLASSES.get(peer, "x")


def bars(rows, unit):
    """A bar a peer, of parts, with a dot for each round's whole. `rows`: (peer, title, [(part, median)], Figure)."""
    most = max((figure.most for *_, figure in rows), default=0) or 1
    lines = []
    for peer, title, parts, figure in rows:
        total = sum(value for _, value in parts) or 1
        pieces = "".join(
            f'<i style="width:{100 * figure.median / most * value / total:.2f}%;opacity:{SHADES[min(n, 2)]}" '
            f'title="{escape(part)}: {number(value)} {escape(unit)}"></i>' for n, (part, value) in enumerate(parts) if value > 0)
        dots = "".join(f'<b style="left:{100 * value / most:.2f}%" title="round {n + 1}: {number(value)} {escape(unit)}"></b>'
                       for n, value in enumerate(figure.values))
        said = ", ".join(f"{part} {number(value)}" for part, value in parts if value) if len(parts) > 1 else ""
        lines.append(f'<div class="bar {css(peer)}"><span class="who">{escape(title)}</span>'
                     f'<span class="track">{pieces}{dots}</span><span class="value">{number(figure.median)}</span>'
                     + (f'<small class="parts">{escape(said)}</small>' if said else "") + "</div>")
    return "".join(lines)


def ticks(least, most):
    """1, 2 and 5 of each decade between two values."""
    found = []
    for decade in range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1):
        found += [digit * 10.0 ** decade for digit in (1, 2, 5) if least <= digit * 10.0 ** decade <= most]
    return found


def span(curves):
    """Least and most latency of the curves, in ms, with some air."""
    values = [ms for *_, points in curves for _, ms in points if ms > 0]
    return min(values) * 0.85, max(values) * 1.15


def percentiles(curves, name):
    """Latency over the share of requests that were at least as fast, logarithmic towards 1. `curves`: (peer, title, points)
    with points (quantile, ms)."""
    curves = [(peer, title, thin([(q, ms) for q, ms in points if ms > 0])) for peer, title, points in curves if points]
    if not curves:
        return ""
    nines = max(1 / (1 - q) for *_, points in curves for q, _ in points if q < 1)
    right = max(2.0, min(math.log10(nines), 5))
    least, most = span(curves)
    x = lambda q: LEFT + (WIDTH - LEFT - RIGHT) * min(math.log10(1 / max(1 - q, 1e-9)), right) / right
    y = lambda ms: TOP + (HEIGHT - TOP - BOTTOM) * (1 - math.log(ms / least) / math.log(most / least))
    parts = []
    for q in QUANTILES:
        label = f"{100 * q:.10g} %" if q else "0"
        if math.log10(1 / (1 - q)) <= right + 1e-9:
            parts.append(f'<path class="grid" d="M{x(q):.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
                         f'<text class="tick" x="{x(q):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>')
    for value in ticks(least, most):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>'
                     f'<text class="tick" x="{LEFT - 7}" y="{y(value) + 3.5:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text class="tick" x="{LEFT - 7}" y="{HEIGHT - BOTTOM + 16}" text-anchor="end">ms</text>'
                 f'<text class="tick" x="{(WIDTH + LEFT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">'
                 "share of requests that took no longer</text>")
    for peer, _, points in reversed(curves):
        line = "L".join(f"{x(q):.1f} {y(ms):.1f}" for q, ms in points)
        parts.append(f'<path class="curve {css(peer)}" data-peer="{escape(peer)}" d="M{line}"/>')
    data = json.dumps({"right": right, "curves": curves}).replace("<", "\\u003c")
    legend = "".join(f'<button class="key {css(peer)}" data-peer="{escape(peer)}" aria-pressed="true">'
                     f'<svg viewBox="0 0 26 8" aria-hidden="true"><path class="curve {css(peer)}" d="M0 4H26"/></svg>'
                     f"{escape(title)}</button>" for peer, title, _ in curves)
    return (f'<figure class="percentiles" aria-label="{escape(name)}"><div class="legend">{legend}</div><div class="wide">'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}<path class="cross" d=""/></svg></div>'
            f'<p class="reading">&nbsp;</p><script type="application/json">{data}</script></figure>')


def thin(points, most=240):
    """So many points that the curve looks the same: those that lie apart on its logarithmic axis."""
    kept, last = [], -1.0
    for q, ms in points:
        place = math.log10(1 / max(1 - q, 1e-9))
        if place - last >= 5 / most or not kept:
            kept.append((round(q, 7), ms))
            last = place
    return kept


def promise_scale(promise, figure):
    """Where the rounds lie between nothing and somewhat above the promise."""
    most = max(promise.at_most * 1.5, figure.most)
    at = lambda value: f"{100 * value / most:.2f}%"
    dots = "".join(f'<b style="left:{at(value)}"></b>' for value in figure.values)
    return (f'<span class="scale"><em style="width:{at(promise.at_most)}"></em>'
            f'<em class="far" style="width:{at(promise.moonshot)}"></em>{dots}<u style="left:{at(figure.median)}"></u></span>')
