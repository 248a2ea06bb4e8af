"""Files of text as people have them, packed or not, in any usual encoding: CSV, TSV, JSON Lines."""

import csv
import gzip
import io
import json
import re
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

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
    findings.guessed.append(f"encoding {name}: the file is no UTF-8")
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
    separator = _separator(text, usual, where, findings)
    names, header = _header(text, separator, findings)
    quoted, error = None, ""
    try:
        quoted, bad = _parsed(text, separator, names, header, csv.QUOTE_MINIMAL)
    except ValueError as failed:
        error = reason(failed)
    # In a TSV, and where a quote is never closed, quotes are signs like others if the rows fit so.
    if '"' in text and (quoted is None or separator == "\t"):
        lines = text.rstrip("\r\n").replace("\r\n", "\n").split("\n")
        if all(line.count(separator) == len(names) - 1 for line in lines if line):
            plain, no_bad = _parsed(text, separator, names, header, csv.QUOTE_NONE)
            if quoted is None or len(plain) > len(quoted):
                findings.guessed.append("quotes are parts of the texts: as such every row fits")
                quoted, bad = plain, no_bad
    if quoted is None:
        raise UserError(f"{where} cannot be read as a table ({error}): close its quotes")
    total = len(quoted) + len(bad)
    todo = "put texts that hold separators into quotes"
    findings.leave_out_damaged("row", bad, total, todo)
    return {name: quoted[name].fillna("").tolist() for name in quoted}


def _separator(text: str, usual: str, where: str, findings: Findings) -> str:
    """Return what separates the columns: the usual sign, unless another fits and it does not."""
    scores = {}
    for sign in dict.fromkeys((usual, ",", ";", "\t", "|")):
        widths = [len(row) for row in _rows(text, sign) if row][:-1] or [0]
        width, count = Counter(widths).most_common(1)[0]
        # A comma in each text is no separator if the names of the columns have none.
        scores[sign] = (count / len(widths) if width == widths[0] > 1 else 0.0, width)
    best = max(scores, key=lambda sign: (scores[sign][0] > 0.9, scores[sign]))
    if scores[usual][0] > 0.9 or scores[best][0] == 0:
        best = usual
    if scores[best][0] == 0:
        raise UserError(
            f"{where} has one column, and needs two or more: the texts and their labels"
        )
    if best != usual:
        findings.guessed.append(f"columns separated by {best!r}")
    return best


def _rows(text: str, separator: str) -> list[list[str]]:
    """Return the first rows; the last of them may be cut."""
    csv.field_size_limit(SAMPLE + 1)
    sample = text[:SAMPLE] + "\n."
    quoting: Any = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    rows = []
    try:
        for row in csv.reader(
            io.StringIO(sample, newline=""), delimiter=separator, quoting=quoting
        ):
            rows.append(row)
    except csv.Error:
        pass
    return rows


def _header(text: str, separator: str, findings: Findings) -> tuple[list[str], bool]:
    """Return the columns' names, and whether the file has them."""
    first, *others = [row for row in _rows(text, separator) if row]
    values: list[set[str]] = [
        set(column) for column in zip(*_even(others, len(first)), strict=True)
    ]
    again = [bool(name) and name in column for name, column in zip(first, values, strict=False)]
    if not any(is_number(name) or len(name) > LONGEST_NAME for name in first) and (
        not any(again) or all(again)
    ):
        names = [name.strip().strip('"') or f"column{i}" for i, name in enumerate(first, 1)]
        return [f"{n}{i}" if n in names[: i - 1] else n for i, n in enumerate(names, 1)], True
    names = [f"column{i}" for i in range(1, len(first) + 1)]
    findings.guessed.append(f"the first row holds no names: the columns are {', '.join(names)}")
    return names, False


def _even(rows: list[list[str]], width: int) -> list[list[str]]:
    return [row for row in rows if len(row) == width] or [[""] * width]


def _parsed(text: str, separator: str, names: list[str], header: bool, quoting: Any) -> Any:
    """Return the table, and the rows that have too many cells."""
    import pandas

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table = pandas.read_csv(
            io.StringIO(text),
            sep=separator,
            names=names,
            header=0 if header else None,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            quoting=quoting,
            on_bad_lines="warn",
        )
    bad = [f"line {n}" for one in said for n in re.findall(r"line (\d+):", str(one.message))]
    return table, bad


def is_number(value: Any) -> bool:
    """Return whether a value, or what a text says, is a finite number."""
    if isinstance(value, str):
        return bool(re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value, re.ASCII))
    return isinstance(value, int | float) and abs(value) < 1e300


def json_rows(text: str, where: str, findings: Findings) -> Columns:
    """Return the columns of JSON Lines, or of a JSON list of rows.

    Raises:
        UserError: if it is neither.
    """
    rows, bad = [], []
    try:
        if text.lstrip()[:1] == "[":
            found: Any = json.loads(text)
            lines = [(f"row {i}", row) for i, row in enumerate(found, 1)]
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
