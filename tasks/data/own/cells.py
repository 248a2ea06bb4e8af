"""What the cells of a table say: numbers in the ways that people and programs write them."""

import re
import unicodedata
from typing import Any

from tasks.data.own.findings import Findings, listed

REPEATED = 3  # so often, in the mean, each value of a column with few of them comes
# What programs write where there is no value.
NO_VALUE = {"NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "NULL", "null", "None", "-", "?"}
NUMBER = r"[+-]?(\d+{0}?\d*|{0}\d+)([eE][+-]?\d+)?"
POINT, POINT_OR_COMMA = (re.compile(NUMBER.format(sign), re.ASCII) for sign in (r"\.", "[.,]"))
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)


def is_number(value: Any) -> bool:
    """Return whether a value, or what a text says, is a finite number."""
    if isinstance(value, str):
        return POINT.fullmatch(value.strip()) is not None and abs(float(value)) < 1e300
    return isinstance(value, int | float) and abs(value) < 1e300


def plain_text(value: Any) -> str:
    """Return a text as those are that differ from it in white space alone, or look the same."""
    return " ".join(unicodedata.normalize("NFC", str(value)).split())


def plain_numbers(
    columns: dict[str, list[str]], separator: str, findings: Findings
) -> dict[str, list[str]]:
    """Return columns in which those of numbers have decimal points, and nothing for no number.

    Args:
        columns: the cells of a text file, by column.
        separator: what separates its columns.
        findings: where to say what was changed.
    """
    found, notes = dict(columns), dict[str, list[str]]()
    for name, cells in columns.items():
        said = set(cells) if all(map(_may_be_number, cells)) else set()
        empty = {cell for cell in said if cell.strip() in NO_VALUE}
        numbers = {cell for cell in said - empty if cell.strip()}
        commas = {cell for cell in numbers if "," in cell}
        if not numbers or (commas and any("." in cell for cell in numbers)):
            continue  # where both signs are, nobody knows which is the decimal one
        # Between columns that semicolons separate, a comma is the decimal one.
        thousands = separator != ";" and all(THOUSANDS.fullmatch(cell.strip()) for cell in commas)
        new = {cell: cell.replace(",", "" if thousands else ".") for cell in commas}
        new |= dict.fromkeys(empty, "")
        found[name] = [new.get(cell, cell) for cell in cells] if new else cells
        commas_are = f"commas are {'between thousands' if thousands else 'decimal points'}"
        for note, there in ((commas_are, commas), ("NA and the like are empty cells", empty)):
            if there:
                notes.setdefault(note, []).append(name)
    for note, names in notes.items():
        findings.guessed.append(f"numbers in {listed(names)}: {note}")
    return found


def _may_be_number(cell: str) -> bool:
    cell = cell.strip()
    return not cell or cell in NO_VALUE or POINT_OR_COMMA.fullmatch(cell) is not None
