"""Verdicts on figures, as a table and as JSON."""

import dataclasses

from .tools import Unread

HOLDS, GOAL, MISSED, NOT_RUN = "holds", "goal reached", "missed", "not run"
# Cores that other processes may take without telling in figures of time.
QUIET_CORES = 0.1


@dataclasses.dataclass(frozen=True)
class Row:
    budget: object
    measured: float | None
    verdict: str
    reason: str = ""


def measured(budget, figures, absent):
    """The budget's figure; raises Unread."""
    values = []
    for source in budget.sources:
        value = figures.get(source, Unread(absent))
        if isinstance(value, Unread):
            raise value
        values.append(value)
    if len(values) == 1:
        return values[0]
    if not values[1]:
        raise Unread(f"{budget.over} is 0")
    return values[0] / values[1]


def judge(budgets, figures, absent="needs --long"):
    """A row a budget. `absent` is why a source was not measured at all."""
    rows = []
    for budget in budgets:
        try:
            figure = measured(budget, figures, absent)
        except Unread as why:
            rows.append(Row(budget, None, NOT_RUN, str(why)))
            continue
        verdict = HOLDS if budget.keeps(figure, budget.limit) else MISSED
        if verdict == HOLDS and budget.has_stricter_goal and budget.keeps(figure, budget.goal):
            verdict = GOAL
        rows.append(Row(budget, figure, verdict))
    return rows


def number(value):
    """Three digits that mean something, and whole numbers whole."""
    if value is None:
        return "–"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cells(row):
    budget = row.budget
    limit = ("≤ " if budget.is_most else "≥ ") + number(budget.limit)
    verdict = f"{row.verdict} ({row.reason})" if row.reason else row.verdict
    return [budget.name, limit, number(budget.goal), number(row.measured), budget.unit, verdict]


def grid(lines):
    """Lines of cells, the first one the heading; columns 1 to 3 are numbers."""
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]) - 1)]
    shown = []
    for line in lines:
        parts = [cell.rjust(width) if n in (1, 2, 3) else cell.ljust(width) for n, (cell, width) in enumerate(zip(line, widths))]
        shown.append("  ".join([*parts, line[-1]]).rstrip())
    return [shown[0], "  ".join("─" * width for width in [*widths, 12]), *shown[1:]]


def quiet(told):
    """A sentence on what else the machine did, or nothing."""
    most = max(told, key=lambda one: one["foreign_cores"], default=None)
    if most is None or most["foreign_cores"] <= QUIET_CORES:
        return ""
    return (f"The machine was not quiet: other processes took up to {most['foreign_cores']:.2f} cores ({most['step']}). Times are "
            "worse than they would be; ratios hold better, instruction counts do not care.")


def text(rows, told):
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (GOAL, HOLDS, MISSED, NOT_RUN)}
    lines = grid([["budget", "promised", "goal", "measured", "", ""], *map(cells, rows)])
    lines += ["", f"{counts[GOAL] + counts[HOLDS]} hold ({counts[GOAL]} with their goal reached), {counts[MISSED]} missed, "
                  f"{counts[NOT_RUN]} not run"]
    return "\n".join([*lines, *filter(None, [quiet(told)])])


def as_json(rows):
    return [{"name": row.budget.name, "what": row.budget.what, "unit": row.budget.unit, "source": row.budget.source,
             "over": row.budget.over, "at_most" if row.budget.is_most else "at_least": row.budget.limit, "goal": row.budget.goal,
             "measured": row.measured, "verdict": row.verdict, "reason": row.reason or None} for row in rows]


def status(rows, told):
    """2: a promise is missed; 1: a tool failed; 0: neither."""
    if any(row.verdict == MISSED for row in rows):
        return 2
    return 1 if any(one["failed"] for one in told) else 0
