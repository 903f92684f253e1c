"""tuning/budgets.toml as budgets."""

import dataclasses
import pathlib
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "tuning" / "budgets.toml"
NUMBERS = ("at_most", "at_least", "goal", "from", "measured")
TEXTS = ("what", "unit", "source", "over", "held_by")


class Wrong(Exception):
    """The file cannot be used; the text names budget and key."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """A promised figure. With `over` it is the quotient of two: `source` by `over`."""

    name: str
    what: str
    unit: str
    source: str
    over: str | None
    limit: float
    is_most: bool
    goal: float | None
    held_by: str | None

    @property
    def sources(self):
        return [self.source, self.over] if self.over else [self.source]

    def keeps(self, figure, limit):
        return figure <= limit if self.is_most else figure >= limit

    @property
    def has_stricter_goal(self):
        return self.goal is not None and self.goal != self.limit


def tool_of(source):
    return source.partition(":")[0]


def name_of(source):
    return source.partition(":")[2]


def budget(name, table):
    """One budget of the file."""

    def wrong(text):
        return Wrong(f"[{name}]: {text}")

    unknown = set(table) - {*NUMBERS, *TEXTS}
    if unknown:
        raise wrong(f"unknown key {', '.join(sorted(unknown))}")
    for key in ("what", "unit", "source"):
        if not table.get(key):
            raise wrong(f"has no `{key}`")
    for key, kind in [*((key, (int, float)) for key in NUMBERS), *((key, str) for key in TEXTS)]:
        if key in table and (not isinstance(table[key], kind) or isinstance(table[key], bool)):
            raise wrong(f"`{key}` is {table[key]!r}")
    if ("at_most" in table) == ("at_least" in table):
        raise wrong("needs one of `at_most` and `at_least`")
    is_most = "at_most" in table
    limit = table["at_most" if is_most else "at_least"]
    found = Budget(name, table["what"], table["unit"], table["source"], table.get("over"), limit, is_most, table.get("goal"),
                   table.get("held_by"))
    if found.goal is not None and not found.keeps(found.goal, limit):
        raise wrong(f"its goal {found.goal:g} is worse than its promise {limit:g}")
    for source in found.sources:
        if not tool_of(source) or not name_of(source):
            raise wrong(f"source {source!r} is not TOOL:NAME")
    return found


def tables(path=FILE):
    """The file as it is."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Wrong(f"{path}: {error}") from None


def load(path=FILE):
    return [budget(name, table) for name, table in tables(path).items()]
