"""Files of text as people have them, packed or not, in any usual encoding: CSV, TSV, JSON Lines."""

import csv
import gzip
import io
import json
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from tasks.data.own.cells import REPEATED, may_be_number, plain_numbers, says_number
from tasks.data.own.findings import Findings
from tasks.errors import UserError, reason
from tasks.format import size

Columns = dict[str, list[Any]]

MOST_BYTES = 2 * 2**30  # of a table in memory
PACKED = 200  # no text is packed to a smaller part: such a file is made to fill the memory
UNSUSPECTED = 64 * 2**20  # bytes that any file may unpack to
BLOCK = 2**20
SAMPLE = 200_000  # characters that tell what separates the columns
LONGEST_NAME = 64  # of a column
SURPLUS = "\0"  # the column of cells that no name is above

# What else a file can be, by its first bytes or its name, and what to do then.
PICKLE = "is a pickle, which can run programs when it is opened: save the table as CSV or Parquet"
SHEET = "is a spreadsheet: save it as CSV (UTF-8) there"
ARCHIVE = "is an archive: unpack it, and give the file or folder that was in it"
REFUSED_BYTES = {
    b"PK\x03\x04": ARCHIVE,
    b"\xd0\xcf\x11\xe0": SHEET,
    b"7z\xbc\xaf": ARCHIVE,
    b"Rar!": ARCHIVE,
    b"BZh": ARCHIVE,
    b"\xfd7zXZ": ARCHIVE,
    b"\x28\xb5\x2f\xfd": ARCHIVE,
    b"SQLite": "is a data base: save the table as CSV",
    b"ARROW1": "is an Arrow file: save the table as Parquet",
    b"\x93NUMPY": "is a numpy array: save the table as CSV",
    **{b"\x80" + bytes([protocol]): PICKLE for protocol in range(2, 6)},
}
REFUSED_NAMES = dict.fromkeys((".pkl", ".pickle", ".p", ".joblib"), PICKLE)
REFUSED_NAMES |= dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), SHEET)
REFUSED_NAMES |= dict.fromkeys((".pt", ".pth", ".bin"), PICKLE)


def refuse_others(path: Path, where: str) -> None:
    """Raise UserError for a file that holds no table that is read here."""
    with path.open("rb") as file:
        start = file.read(8)
    complaint = REFUSED_NAMES.get(path.suffix.lower())
    known = [line for magic, line in REFUSED_BYTES.items() if start.startswith(magic)]
    if complaint or known:
        raise UserError(f"{where} {complaint or known[0]}")
    if not start:
        raise UserError(f"{where} is empty: give the file that holds your data")


def content_of(path: Path, where: str) -> bytes:
    """Return what a file holds, unpacked if it is packed by gzip.

    Raises:
        UserError: if it is damaged or more than fits.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if not packed:
        if path.stat().st_size > MOST_BYTES:
            raise too_large(where)
        return path.read_bytes()
    blocks, total, bytes_there = [], 0, path.stat().st_size
    try:
        with gzip.open(path) as unpacked:
            while block := unpacked.read(BLOCK):
                blocks.append(block)
                total += len(block)
                if total > MOST_BYTES or total > max(UNSUSPECTED, PACKED * bytes_there):
                    raise too_large(where)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{where} is damaged ({reason(error)}): give a whole copy") from error
    return b"".join(blocks)


def too_large(where: str) -> UserError:
    """The error to raise for a table that would fill the memory."""
    return UserError(
        f"{where} holds more than {size(MOST_BYTES)} when unpacked, or far more than its own size: "
        "nothing of it was kept; give a part of it"
    )


def decoded(content: bytes, where: str, findings: Findings) -> str:
    """Return a file's text, by the encoding that its bytes have.

    Raises:
        UserError: if it is no text.
    """
    for mark, name in (
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
        (b"\xef\xbb\xbf", "utf-8-sig"),
    ):
        if content.startswith(mark):
            findings.guessed.append(f"encoding {name}, by its byte order mark")
            return content.decode(name, "replace")
    head = content[:BLOCK]
    if b"\0" in head:
        for name, first in (("utf-16-le", 1), ("utf-16-be", 0)):
            if head[first::2].count(0) > len(head) / 4:
                findings.guessed.append(f"encoding {name}, by its zeros")
                return content.decode(name, "replace")
        raise UserError(f"{where} is no text: save the table as CSV, TSV, JSON Lines or Parquet")
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    text = content.decode(errors="replace")
    wrong, right = text.count("\ufffd"), len(re.findall(r"[^\x00-\x7f\ufffd]", text))
    if right > 10 * wrong:  # no other encoding looks like so much of it
        findings.warnings.append(f"{wrong} bytes are no UTF-8: each is read as \ufffd")
        return text
    try:
        text, name = content.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        text, name = content.decode("latin-1"), "Latin-1"
    if len(re.findall(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", text[:BLOCK])) > len(text[:BLOCK]) / 100:
        raise UserError(f"{where} is no text: save the table as CSV, TSV, JSON Lines or Parquet")
    findings.guessed.append(f"encoding {name}: the file is no UTF-8; save it so if it has another")
    return text


def separated(text: str, usual: str, where: str, findings: Findings) -> Columns:
    """Return the columns of a CSV or TSV file: all cells are texts.

    Args:
        text: the file's.
        usual: what separates the columns by the file's name.
        where: what a message calls it.
        findings: where to say what was guessed or left out.

    Raises:
        UserError: if it is no table.
    """
    if named := re.match(r'"?sep=(.)"?(?=\r?\n)', text, re.IGNORECASE):  # for Excel alone
        usual, text = named[1], text[named.end() :]
    separator = _separator(text, usual, where, findings)
    names, header = _header(text, separator, findings)
    form = _form(text, separator)
    quoted, error = None, ""
    try:
        quoted, bad = _parsed(text, names, header, form)
    except ValueError as failed:
        error = reason(failed)
    # In a TSV, and where quotes do not end with their cell, they are signs like others if the rows
    # fit so: two such quotes would make one text of all rows between them.
    odd = _odd_quote(text, form) if '"' in text else 0
    if odd or ('"' in text and separator == "\t"):
        lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
        if all(line.count(separator) == len(names) - 1 for line in lines):
            plain, no_bad = _parsed(text, names, header, {**form, "quoting": csv.QUOTE_NONE})
            if quoted is None or len(plain) > len(quoted):
                findings.guessed.append("quotes are parts of the texts: as such every row fits")
                quoted, bad = plain, no_bad
        elif odd and quoted is not None and len(quoted) + len(bad) + header < len(lines):
            findings.warnings.append(
                f"a quote near line {odd} does not end with its cell: rows may have run together"
            )
    if quoted is None:
        raise UserError(f"{where} cannot be read as a table ({error}): close its quotes")
    total = len(quoted) + len(bad)
    todo = "put texts that hold separators into quotes"
    findings.leave_out_damaged("row", [f"line {n}" for n in bad], total, todo)
    columns = {name: quoted.pop(name).fillna("").tolist() for name in [*quoted]}
    return dict(plain_numbers(columns, separator, findings))


def _separator(text: str, usual: str, where: str, findings: Findings) -> str:
    """Return what separates the columns: the usual sign, unless another fits and it does not."""
    scores, first = {}, {}
    for sign in dict.fromkeys((usual, ",", ";", "\t", "|")):
        rows = [row for row in _rows(text, sign) if row][:-1] or [[]]
        first[sign] = len(rows[0])
        # A separator at a row's end may have no column after it.
        widths = [len(row) - (len(row) == first[sign] + 1 and not row[-1]) for row in rows]
        width, count = Counter(widths).most_common(1)[0]
        # A comma in each text is no separator if the names of the columns have none.
        scores[sign] = (count / len(widths) if width == first[sign] > 1 else 0.0, width)
        if sign != "," and scores[sign][0] > 0.9 and _has_decimal_commas(rows):
            scores[","] = (0.0, 0)  # which part each row in two, as well
    best = max(scores, key=lambda sign: (scores[sign][0] > 0.9, scores[sign]))
    if scores[usual][0] > 0.9 or scores[best][0] == 0:
        best = usual
    if scores[best][0] == 0:
        if first[usual] > 1:
            raise UserError(
                f"{where}: most rows have not as many cells as the first, which has "
                f"{first[usual]}: put texts that hold {usual!r} into quotes"
            )
        raise UserError(
            f"{where} has one column, and needs two or more: the texts and their labels"
        )
    if best != usual:
        findings.guessed.append(f"columns separated by {best!r}")
    return best


def _has_decimal_commas(rows: list[list[str]]) -> bool:
    """Return whether a column holds numbers alone, and a comma; the first row may be of names."""
    columns = zip_longest(*rows[1:], fillvalue="")
    return any(all(map(may_be_number, cells)) and "," in "".join(cells) for cells in columns)


def _rows(text: str, separator: str) -> list[list[str]]:
    """Return the first rows; the last of them may be cut."""
    sample = io.StringIO(text[:SAMPLE] + "\n.", newline="")
    form = _form(text, separator)
    if separator == "\t":
        form["quoting"] = csv.QUOTE_NONE
    rows = []
    with _cells_of(SAMPLE + 1), suppress(csv.Error):
        for row in csv.reader(sample, **form):
            rows.append(row)
    return rows


def _form(text: str, separator: str) -> dict[str, Any]:
    """Return how csv and pandas are to read a file: some programs write a space before a quote."""
    form = {"delimiter": separator, "skipinitialspace": True}
    spaced = f'{separator} "' in text[:SAMPLE] and not _odd_quote(text[:SAMPLE], form, cut=True)
    return {**form, "skipinitialspace": spaced}


@contextmanager
def _cells_of(characters: int) -> Iterator[None]:
    """Let csv read cells of so many characters; its limit is one for all of the process."""
    before = csv.field_size_limit(characters)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _odd_quote(text: str, form: dict[str, Any], cut: bool = False) -> int:
    """Return the line of the first quote that does not end with its cell; 0 if there is none.

    The last cell of a text that is `cut` need not end.
    """
    lines = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline="")
    rows = csv.reader(lines, **form, strict=True)
    try:
        with _cells_of(len(text) + 1):
            for _ in rows:
                pass
    except csv.Error as error:
        return 0 if cut and "end of data" in str(error) else rows.line_num
    return 0


def _header(text: str, separator: str, findings: Findings) -> tuple[list[str], bool]:
    """Return the columns' names, and whether the file has them."""
    first, *others = [row for row in _rows(text, separator) if row]
    even = [row for row in others if len(row) == len(first)] or [[""] * len(first)]
    columns = list(zip(*even, strict=True))
    again = [bool(name) and name in column for name, column in zip(first, columns, strict=True)]
    odd = any(says_number(name) or len(name) > LONGEST_NAME for name in first)
    if (not odd or any(map(_is_above, first, columns))) and (not any(again) or all(again)):
        return _different([" ".join(name.strip('" \r\n\t').split()) for name in first]), True
    names = [f"column{i}" for i in range(1, len(first) + 1)]
    findings.guessed.append(f"the first row holds no names: the columns are {', '.join(names)}")
    return names, False


def _is_above(name: str, cells: Sequence[str]) -> bool:
    """Return whether a first cell is none of a column's: below it are numbers, or a few values."""
    if not name or says_number(name) or name in cells:
        return False
    return REPEATED * len(set(cells)) <= len(cells) or all(map(says_number, cells))


def _different(names: list[str]) -> list[str]:
    """Return names without equal and empty ones: those get the number of their column."""
    found: list[str] = []
    for place, name in enumerate(names, 1):
        new = name or f"column{place}"
        while new in found or (new != name and new in names):
            new = f"{new}{place}" if new == name else f"{new}_"
        found.append(new)
    return found


def _parsed(text: str, names: list[str], header: bool, form: dict[str, Any]) -> Any:
    """Return the table, and the rows that have too many cells."""
    import pandas

    # Of a file's first rows, pandas takes any number of cells for what all have, and drops those
    # without a name in silence. So there is one name more, and a row before the first. As bytes,
    # since a file of text in memory takes four of them a sign.
    file = io.BytesIO(f"{form['delimiter'] * len(names)}\n{text}".encode())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table = pandas.read_csv(
            file,
            **form,
            names=[*names, SURPLUS],
            header=0,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            on_bad_lines="warn",
            skip_blank_lines=False,  # pandas counts them
        )
    skipped = [int(n) - 1 for one in said for n in re.findall(r"line (\d+):", str(one.message))]
    table.index = np.setdiff1d(np.arange(1, 1 + len(table) + len(skipped)), skipped)  # lines
    filled = table[names[0]].str.strip() != ""  # an empty line may hold spaces
    for name in names[1:]:
        filled |= table[name] != ""
    table = table[filled]
    table = table.iloc[int(header) :]
    surplus = table.pop(SURPLUS).fillna("").str.strip() != ""
    return table[~surplus], sorted({*skipped, *table.index[surplus].tolist()})


def _whole_json(text: str) -> Any:
    """Return what all of a file says; None if it is not one value, as that of JSON Lines is not."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" and text.lstrip()[:1] == "[":
            raise
        return None


def json_rows(text: str, where: str, findings: Findings) -> Columns:
    """Return the columns of JSON Lines, or of a JSON list of rows.

    Raises:
        UserError: if it is neither.
    """
    rows, bad = [], []
    try:
        whole = _whole_json(text)
        if (
            isinstance(whole, dict)
            and whole
            and all(isinstance(v, dict | list) for v in whole.values())
        ):
            raise UserError(
                f"{where} is one JSON object of {', '.join([*whole][:3])}: give a list of objects, "
                "one for each row (pandas writes it with to_json(path, orient='records'))"
            )
        if isinstance(whole, list):
            lines: Any = [(f"row {i}", row) for i, row in enumerate(whole, 1)]
        else:
            lines = [(f"line {i}", line) for i, line in enumerate(text.split("\n"), 1)]
        for name, line in lines:
            if isinstance(line, str) and not line.strip():
                continue
            try:
                row = json.loads(line) if isinstance(line, str) else line
            except ValueError:
                row = None
            if isinstance(row, dict):
                rows.append(row)
            else:
                bad.append(name)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON ({reason(error)}): give a whole copy") from error
    findings.leave_out_damaged("row", bad, len(rows) + len(bad), "give one JSON object a line")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
