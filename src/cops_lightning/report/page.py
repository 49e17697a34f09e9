"""The report: sections with text, tables and figures, written as one HTML page, Markdown, LaTeX and CSV."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cops_lightning.core.files import replacing
from cops_lightning.core.names import in_markdown, printable
from cops_lightning.core.places import require_own
from cops_lightning.report.claims import SYMBOLS

MARK = "report of cops_lightning"  # with which both pages begin
PAGES = ("report.html", "report.md")
MISSING = "\N{EN DASH}"
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
# Columns that hold words.
WORDS = (
    "method", "auxiliary", "target", "category", "metric", "dataset", "B", f"A {MINUS} B", "auxiliary → target",
    "features of", "folder", "status", "why", "why not", "hash", "labels", "alone", "verdict",
    "trained on", "do seeds explain it?", "the authors' program", "these runs", "elsewhere",
)  # fmt: skip
# What LaTeX reads otherwise, or does not know in its text fonts.
LATEX = str.maketrans({
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    MINUS: "$-$",
    MISSING: "--",
    TIMES: r"$\times$",
    "≥": r"$\geq$",
    "²": "$^2$",
    "é": r"\'e",
    "…": r"\ldots{}",
    "Δ": r"$\Delta$",
    "▲": r"$\blacktriangle$",
    "▼": r"$\blacktriangledown$",
})  # fmt: skip


@dataclass(frozen=True)
class Table:
    """`shown` holds the cells as text, `raw` the numbers for CSV, else the text."""

    name: str
    caption: str
    shown: pd.DataFrame
    raw: pd.DataFrame | None = None

    def align(self, column: str) -> str:
        """The class of a column's cells: words to the left, numbers to the right."""
        return "text" if column in WORDS or column == self.shown.columns[0] else ""

    def cell_class(self, column: str, cell: str) -> str:
        """The classes of a cell: of its column, of a verdict, and long where it may be broken."""
        verdict = cell.partition(" ")[2] if cell[:1] in SYMBOLS.values() else ""
        return " ".join(filter(None, (self.align(column), verdict, "long" if len(cell) > 30 else "")))


@dataclass(frozen=True)
class Plot:
    """An SVG image; `caption` also describes it to those who cannot see it."""

    name: str
    caption: str
    svg: bytes

    @property
    def inline(self) -> Markup:
        """The image as part of a page, where several share one space of ids; its background is the page's."""
        text = self.svg[self.svg.index(b"<svg") :].decode()
        return Markup(re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{self.name}-", text))


@dataclass(frozen=True)
class Section:
    """One heading of the report. It is folded unless `is_open`; `beside`: its figures stand beside its tables;
    `left_out` says of each file that was not taken why.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    is_open: bool = False
    beside: bool = False
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """The whole report: what was asked, the answer, what it rests on, and what a reader has to know of that."""

    title: str
    question: str
    answer: tuple[str, ...]
    summary: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()


def require_page_place(option: str, folder: Path) -> None:
    """Raise CopsError where `write_page` would replace a file of somebody else, by how the pages there begin; beside
    no page that it wrote, figures/ and tables/ are somebody's. Raises OSError where nothing can be written.
    """
    for name in PAGES:
        require_own(f"a page in {option}", folder / name, MARK, lambda start: MARK.encode() in start)
    if not any((folder / name).exists() for name in PAGES):
        for name in ("figures", "tables"):
            require_own(f"a folder in {option}", folder / name, f"folder of a {MARK}", lambda _: False)


def write_page(page: Page, folder: Path) -> list[Path]:
    """Write report.html, report.md with figures/, tables/*.tex and tables/*.csv; returns the paths.

    Equal pages give equal bytes.
    """
    environment = Environment(
        loader=PackageLoader("cops_lightning.report"),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters["markdown_table"] = markdown_table
    environment.filters["markdown"] = in_markdown
    written = []

    def write(path: Path, content: str | bytes) -> None:
        with replacing(path) as partial:
            partial.write_bytes(content if isinstance(content, bytes) else content.encode())
        written.append(path)

    for name in PAGES:
        write(folder / name, environment.get_template(name).render(page=page, mark=MARK))
    for section in page.sections:
        for plot in section.plots:
            write(folder / "figures" / f"{plot.name}.svg", plot.svg)
        for table in section.tables:
            raw = table.shown if table.raw is None else table.raw
            write(folder / "tables" / f"{table.name}.csv", raw.to_csv(index=False, lineterminator="\n"))
            write(folder / "tables" / f"{table.name}.tex", latex_table(table))
    return written


def markdown_table(frame: pd.DataFrame) -> Markup:
    """Text cells as a Markdown table, numbers to the right."""
    head = [in_markdown(str(column)) for column in frame.columns]
    body = [[in_markdown(str(cell)) for cell in row] for row in frame.to_numpy().tolist()]
    rule = ["---", *["---:"] * (len(head) - 1)]
    return Markup("\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *body]))


def latex_table(table: Table) -> str:
    """A booktabs table with caption and label, to be included by a paper that loads booktabs."""
    # Not pandas' to_latex, whose Styler takes seconds over thousands of rows.
    cells = [[*table.shown.columns], *table.shown.to_numpy().tolist()]
    head, *body = ([_latex(str(cell)) for cell in row] for row in cells)
    lines = [f"{' & '.join(row)} \\\\\n" for row in [head, *body]]
    return (
        f"\\begin{{table}}[tb]\n\\caption{{{_latex(table.caption)}}}\n\\label{{tab:{table.name}}}\n"
        f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n\\toprule\n{lines[0]}\\midrule\n"
        f"{''.join(lines[1:])}\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _latex(text: str) -> str:
    return printable(text).translate(LATEX)


def shown_frame(frame: pd.DataFrame, **columns: tuple[str, Callable[[Any], str]]) -> pd.DataFrame:
    """Text cells from chosen columns: new heading and format per column."""
    return pd.DataFrame({title: [form(cell) for cell in frame[key]] for key, (title, form) in columns.items()})


def number(digits: int = 1, sign: bool = False) -> Callable[[object], str]:
    """A format for numbers; what is not available is a dash."""

    def form(value: object) -> str:
        if value is None or pd.isna(value):  # type: ignore[call-overload]
            return MISSING
        rounded = round(float(value), digits) + 0.0  # type: ignore[arg-type]  # no minus before a rounded 0
        return f"{rounded:{'+' if sign and rounded else ''}.{digits}f}".replace("-", MINUS)

    return form


def interval(low: float | None, high: float | None, digits: int = 1, sign: bool = False) -> str:
    """The bounds as "low to high", or a dash."""
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return MISSING
    form = number(digits, sign)
    return f"{form(low)} to {form(high)}"


def plural(count: int, word: str) -> str:
    """A count with its noun."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def slug(*parts: str) -> str:
    """A file name from words."""
    return re.sub(r"[^a-z0-9]+", "_", "_".join(parts).lower()).strip("_")


def distinct(plots: Iterable[Plot]) -> tuple[Plot, ...]:
    """The same plots with file names that differ: a name that came before gets a number."""
    found: dict[str, Plot] = {}
    for plot in plots:
        name, number = plot.name, 1
        while name in found:
            number += 1
            name = f"{plot.name}_{number}"
        found[name] = replace(plot, name=name)
    return tuple(found.values())


def upper_first(text: str) -> str:
    """The same with a capital first letter."""
    return text[:1].upper() + text[1:]
