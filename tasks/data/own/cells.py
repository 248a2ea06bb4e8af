"""What the cells of a table say: numbers in the ways that people and programs write them."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from tasks.data.own.findings import Findings, listed

ODD = 0.1  # a larger part of cells that are no numbers means that none is meant as one
REPEATED = 3  # so often, in the mean, each value of a column with few of them comes
# What programs write where there is no value.
NO_VALUE = {"NA", "N/A", "n/a", "#N/A", "#NV", "<NA>", "NaN", "nan", "NULL", "null", "None"}
NO_VALUE |= {"-", "?"}
EXPONENT = r"([eE][+-]?\d+)?"
POINT = re.compile(rf"[+-]?(\d+\.?\d*|\.\d+){EXPONENT}", re.ASCII)


@dataclass(frozen=True)
class Form:
    """A way to write numbers."""

    between_thousands: str
    decimal: str

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        thousands, decimal = map(re.escape, (self.between_thousands, self.decimal))
        whole = rf"(\d+|[1-9]\d{{0,2}}({thousands}\d{{3}})+)"
        number = rf"[+-]?({whole}({decimal}\d*)?|{decimal}\d+){EXPONENT}"
        return re.compile(number, re.ASCII)

    def fits(self, cell: str) -> bool:
        """Return whether a cell is a number so written."""
        return self._pattern.fullmatch(cell.strip()) is not None

    def plain(self, cell: str) -> str:
        """Return a number with a decimal point, and nothing between its thousands."""
        return cell.replace(self.between_thousands, "").replace(self.decimal, ".")


FORMS = WITH_POINT, WITH_COMMA = Form(between_thousands=",", decimal="."), Form(".", ",")


def is_number(value: Any) -> bool:
    """Return whether a value, or what a text says, is a finite number."""
    if isinstance(value, str):
        return POINT.fullmatch(value.strip()) is not None and abs(float(value)) < 1e300
    return isinstance(value, int | float) and abs(value) < 1e300


def plain_text(value: Any) -> str:
    """Return a text as those are that differ from it in white space alone, or look the same."""
    return " ".join(unicodedata.normalize("NFC", str(value)).split())


def says_number(cell: str) -> bool:
    """Return whether a cell of a text file is a number, whatever its decimal sign is."""
    return any(form.fits(cell) for form in FORMS)


def plain_numbers(
    columns: dict[str, list[str]], separator: str, findings: Findings
) -> dict[str, list[str]]:
    """Return columns in which those of numbers have decimal points, and nothing for no number.

    1.234 may be a little more than one, or a thousand and more. It is the latter where columns are
    separated by semicolons, as the comma is the decimal sign then, and where another column has
    decimal commas; and so 1,234 is a little more than one there.

    Args:
        columns: the cells of a text file, by column.
        separator: what separates its columns.
        findings: where to say what was changed.
    """
    found, notes = dict(columns), dict[str, list[str]]()
    numbers = {name: _numbers(cells) for name, cells in columns.items()}
    forms = {
        name: [form for form in FORMS if all(map(form.fits, cells))]
        for name, cells in numbers.items()
        if cells
    }
    if separator == ";" or [WITH_COMMA] in forms.values():
        forms = {name: possible[::-1] for name, possible in forms.items()}
    for name, possible in forms.items():
        if not possible:  # nobody knows which is the decimal sign
            one, other = (min(c for c in numbers[name] if not form.fits(c)) for form in FORMS)
            findings.warnings.append(
                f"numbers in {name} are taken for words, as some are written like {one}, others "
                f"like {other}: write one decimal sign"
            )
            continue
        form, said = possible[0], set(columns[name])
        empty = {cell for cell in said if cell.strip() in NO_VALUE}
        new = {cell: form.plain(cell) for cell in numbers[name]} | dict.fromkeys(empty, "")
        if any(new[cell] != cell for cell in new):
            found[name] = [new.get(cell, cell) for cell in columns[name]]
        for sign, signs in ((",", "commas"), (".", "points")):
            # A decimal point is what all expect, unless it could be something else.
            if (sign == "," or WITH_COMMA in possible) and any(sign in c for c in numbers[name]):
                are = "decimal points" if sign == form.decimal else "between thousands"
                notes.setdefault(f"{signs} are {are}", []).append(name)
        if empty:
            notes.setdefault("NA and the like are empty cells", []).append(name)
    for note, names in notes.items():
        findings.guessed.append(f"numbers in {listed(names)}: {note}")
    return found


def _numbers(cells: list[str]) -> set[str]:
    """Return the different numbers in a column, as they are written; none if it is one of words."""
    words = (cell for cell in cells if not may_be_number(cell))
    if sum(1 for _ in islice(words, int(ODD * len(cells)) + 1)) > ODD * len(cells):
        return set()
    return {cell for cell in set(cells) if says_number(cell)}


def may_be_number(cell: str) -> bool:
    """Return whether a cell is empty, or says that there is no value, or is a number."""
    cell = cell.strip()
    return not cell or cell in NO_VALUE or says_number(cell)
