"""A table as files: markdown and LaTeX for readers, the exact numbers as CSV."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.files import MADE_BY, mark, write_files
from analysis.statistics import is_in_percent
from tasks.format import NONE


@dataclass(frozen=True)
class Page:
    """A table with what is written above and below it; one that nobody reads has numbers alone.

    Others may stand under it in the same files, each with a heading.
    """

    stem: str  # of its files' names
    exact: pd.DataFrame
    title: str = ""
    head: str = ""
    shown: pd.DataFrame | None = None  # text
    left: Sequence[str] = ()  # columns that are aligned to the left
    notes: Sequence[str] = ()
    latex: bool = False  # whether it has a .tex, too
    below: Sequence["Page"] = ()

    @property
    def body(self) -> str:
        """All but the title, as markdown."""
        assert self.shown is not None
        parts = [self.head, markdown(self.shown, self.left), bullets(self.notes)]
        return "\n\n".join(filter(None, parts))

    def files(self, made_by: str = MADE_BY) -> dict[str, str]:
        """The content of its files by their names."""
        exact = pd.concat(page.exact for page, _ in self.walk())
        files = {f"{self.stem}.csv": exact.to_csv(index=False, lineterminator="\n")}
        texts = [
            f"{'#' * level} {page.title}\n\n{page.body}\n"
            for page, level in self.walk()
            if page.shown is not None
        ]
        tabulars = [
            (f"% {page.title}\n" if level > 1 else "") + latex(page.shown, page.left)
            for page, level in self.walk()
            if page.shown is not None and page.latex
        ]
        if texts:
            files[f"{self.stem}.md"] = f"{mark(made_by)}\n" + "\n".join(texts)
        if tabulars:
            files[f"{self.stem}.tex"] = f"% {made_by}\n" + "\n".join(tabulars)
        return files

    def walk(self, level: int = 1) -> Iterator[tuple["Page", int]]:
        """This page and those below it, each with the level of its heading."""
        yield self, level
        for page in self.below:
            yield from page.walk(level + 1)


def files_of(pages: Iterable[Page], made_by: str = MADE_BY) -> dict[str, str]:
    """The content of the files of all pages by their names."""
    return {name: content for page in pages for name, content in page.files(made_by).items()}


def write_pages(pages: Iterable[Page], folder: Path, made_by: str = MADE_BY) -> list[Path]:
    """Write the pages' files and remove those of pages no longer made; return their paths."""
    files = files_of(pages, made_by)
    write_files(files, folder, ".md", made_by, companions=(".csv", ".tex"))
    return [folder / name for name in files]


def markdown(table: pd.DataFrame, left: Sequence[str] = ()) -> str:
    """A padded markdown table, readable in a terminal too; columns in `left` are left-aligned."""
    columns = []
    for name in table:
        values = [str(name), *table[name].astype(str)]
        width = max(3, *map(len, values))
        to_left = name in left
        rule = "-" * width if to_left else "-" * (width - 1) + ":"
        values = [value.ljust(width) if to_left else value.rjust(width) for value in values]
        columns.append([values[0], rule, *values[1:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def latex(table: pd.DataFrame, left: Sequence[str] = ()) -> str:
    """A tabular with booktabs' rules; columns in `left` are left-aligned."""
    escape = str.maketrans(
        {"%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "±": r"$\pm$", "–": "--", "−": "$-$"}
        | {"†": r"$\dagger$", "∞": r"$\infty$"}
    )
    rows = [
        [str(value).translate(escape) for value in row] for row in [[*table], *table.to_numpy()]
    ]
    lines = [" & ".join(row) + r" \\" for row in rows]
    columns = "".join("l" if name in left else "r" for name in table)
    body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
    return f"\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n"


def bullets(notes: Iterable[str]) -> str:
    """A markdown list."""
    return "\n".join(f"- {note}" for note in notes)


def count(value: object) -> str:
    """A number of things, with separators; a missing one is said to be unknown."""
    return "unknown" if pd.isna(value) else f"{int(value):,}"  # type: ignore[call-overload]


def score_text(value: float, problem: pd.Series) -> str:
    """A score with its digits, in percent or in its own unit: an error may be very small."""
    if is_in_percent(problem):
        return number(100 * value, ".2f")
    return number(value, ".4f" if problem.higher_is_better else ".4g")


def signed(red: float) -> str:
    """RED in percent with its sign."""
    return number(100 * red, "+.1f")


def bounds(low: float, high: float) -> str:
    """An interval of RED in percent."""
    return f"{signed(low)} to {signed(high)}"


def start_text(start: float) -> str:
    """A start as the documents write it: 1e-8, 1e-4, 1e-2, 3e-5, 1."""
    digits, exponent = f"{start:e}".split("e")
    return f"{float(digits):g}" + (f"e{int(exponent)}" if int(exponent) else "")


def number(value: float, style: str) -> str:
    """A number as `format` writes it, with a minus sign in place of a hyphen before it."""
    text = f"{value:{style}}".replace("inf", "∞")
    return NONE if np.isnan(value) else f"−{text[1:]}" if text.startswith("-") else text
