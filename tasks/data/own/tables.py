"""A user's tables: one file, a folder of files with or without parts, or what datasets saved."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tasks.data.own import text_files
from tasks.data.own.cells import plain_text
from tasks.data.own.findings import Findings, listed
from tasks.data.own.folders import walk
from tasks.data.own.images import part_of
from tasks.data.own.text_files import Columns, content_of, decoded, json_rows, separated
from tasks.errors import UserError, reason
from tasks.format import plural

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
JSON = {".jsonl", ".ndjson", ".json"}
SUFFIXES = {*SEPARATORS, *JSON, ".parquet"} - {".txt"}
SAVED = ("dataset_dict.json", "state.json")  # what datasets writes into a folder
IMAGE_NAMES = ("image", "img", "picture", "photo")  # of columns of bytes
SPLITS = {"split", "set", "subset", "part", "partition"}  # columns of each row's part
FEW = 10  # more values in a column than this are no parts, unless its name says so
BATCH = 4096  # rows of a Parquet file that are unpacked at once


@dataclass
class Table:
    """Rows of named columns, N of them."""

    columns: Columns = field(default_factory=dict)  # name → N values
    parts: list[str | None] = field(default_factory=list)  # [N]: the user's part of each row
    names: list[str] = field(default_factory=list)  # [N]: what a message calls each row
    class_names: dict[str, list[str]] = field(default_factory=dict)  # of columns of class numbers
    images: set[str] = field(default_factory=set)  # columns of encoded images
    unread: dict[str, str] = field(default_factory=dict)  # columns of other values, and what kind

    def append(self, columns: Columns, part: str | None, file: str) -> None:
        """Add rows; columns that they do not have are empty for them."""
        here = len(self.names)
        count = len(next(iter(columns.values()), ()))
        for name in dict.fromkeys([*self.columns, *columns]):
            values = self.columns.setdefault(name, [None] * here)
            values += columns.get(name, [None] * count)
        self.parts += [part] * count
        self.names += [f"{file}row {row}" for row in range(1, count + 1)]


def is_saved(folder: Path) -> bool:
    """Return whether a folder was written by datasets' save_to_disk."""
    return any((folder / name).is_file() for name in SAVED)


def table_files(folder: Path, findings: Findings) -> list[Path]:
    """Return the files of tables below a folder, sorted.

    Raises:
        UserError: if a folder cannot be read, or a link leads out of it.
    """
    return [
        here / name
        for here, names in walk(folder, findings)
        for name in names
        if suffix_of(Path(name)) in SUFFIXES
    ]


def suffix_of(path: Path) -> str:
    """Return what a file's name says of its form, without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def read_tables(path: Path, findings: Findings) -> Table:
    """Return what is in a file, or in the files of a folder, as one table.

    Raises:
        UserError: if it cannot be read.
    """
    table = Table()
    if path.is_file():
        table.append(_columns_of(table, path, findings.where, findings), None, "")
        return table
    if is_saved(path):
        _append_saved(table, path, findings)
        return table
    files = table_files(path, findings)
    parts = {file: part_of(file.relative_to(path).as_posix()) for file in files}
    if any(parts.values()):
        others = [str(file.relative_to(path)) for file in files if not parts[file]]
        findings.leave_out("file", "whose name says no part (train, validation, test)", others)
        files = [file for file in files if parts[file]]
        named = sorted({str(part) for part in parts.values() if part})
        findings.guessed.append(f"parts by the files' names: {', '.join(named)}")
    first: dict[str | None, tuple[Path, set[str]]] = {}
    for file in files:
        inside, part = file.relative_to(path), parts[file]
        columns = _columns_of(table, file, f"{findings.where}/{inside}", findings)
        if not any(columns.values()):
            findings.leave_out("file", "without any row", [str(inside)])
        other, names = first.setdefault(part, (inside, set(columns)))
        if names != set(columns):
            raise UserError(
                f"{findings.where} holds tables with different columns, {other} and {inside}: give "
                "one file, or a folder with the files of one data set alone"
            )
        table.append(columns, part, f"{inside} ")
    return table


def take_parts(table: Table, named: Collection[str | None], findings: Findings) -> None:
    """Take the parts of the rows from a column that has one for each, unless the user named it.

    Raises:
        UserError: if a column has them for some rows alone: parts made anew would mix the user's.
    """
    if any(table.parts):
        return  # of the files
    columns = {
        name: [part_of(str(cell)) for cell in cells]
        for name, cells in table.columns.items()
        if name not in named and (name.lower() in SPLITS or _says_parts(cells))
    }
    for name, parts in columns.items():
        if all(parts) and len(set(parts)) > 1:
            table.parts = parts
            del table.columns[name]
            findings.guessed.append(f"parts: column {name}, by its values")
            return
    for name, parts in columns.items():
        if any(parts) and not all(parts):
            raise _odd_parts(name, table.columns[name], parts, findings.where)


def _says_parts(cells: list[Any]) -> bool:
    """Return whether a column of any name can be nothing but the rows' parts."""
    if not all(part_of(str(cell)) for cell in cells):  # stops at the first that is none
        return False
    words = {str(cell) for cell in cells}
    return len(words) <= FEW and "train" in map(part_of, words)


def _odd_parts(name: str, cells: list[Any], parts: list[str | None], where: str) -> UserError:
    """Return the error for a column that says no part of some rows."""
    odd = [cell for cell, part in zip(cells, parts, strict=True) if part is None]
    counts = Counter("" if cell is None else plain_text(cell) for cell in odd)
    shown = [f"{value[:20] or 'blank'} ({n})" for value, n in counts.most_common()]
    return UserError(
        f"{where}: column {name} says train, validation or test, but not in "
        f"{len(odd)} of {plural(len(cells), 'row')}: {listed(shown)}: write one of train, "
        "validation, test there, or leave these rows out, or rename the column if it says no parts"
    )


def _columns_of(table: Table, path: Path, where: str, findings: Findings) -> Columns:
    """Return the columns of a file; note in the table what they are."""
    try:
        text_files.refuse_others(path, where)
        with path.open("rb") as file:
            start = file.read(4)
        if start == b"PAR1":
            columns: Columns = {}
            for batch in _parquet(table, path, where):
                for name, values in batch.items():
                    columns.setdefault(name, []).extend(values)
            return columns
        suffix = suffix_of(path)
        text = decoded(content_of(path, where), where, findings)
    except OSError as error:
        raise UserError(f"{where} cannot be read ({error.strerror or error})") from error
    if suffix in JSON or (suffix not in SEPARATORS and text.lstrip()[:1] in ("{", "[")):
        return json_rows(text, where, findings)
    if suffix in SEPARATORS:
        return separated(text, SEPARATORS[suffix], where, findings)
    raise UserError(
        f"{where}: cannot tell what this file is: name it .csv, .tsv, .jsonl or .parquet"
    )


def _parquet(table: Table, path: Path, where: str) -> Iterator[Columns]:
    """Yield the columns of a Parquet file, some rows at a time."""
    import pyarrow
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
        kinds = _kinds(table, schema, where)
        # As a dictionary a text is unpacked once, however often it comes.
        texts = [name for name in kinds if _is_text(schema.field(name).type)]
        file = parquet.ParquetFile(path, read_dictionary=texts)
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        total = 0
        if sum(group.total_byte_size for group in groups) > text_files.MOST_BYTES:
            raise text_files.too_large(where)
        for batch in file.iter_batches(BATCH, columns=kinds):
            total += sum(_size(column) for column in batch.columns)
            if total > text_files.MOST_BYTES:
                raise text_files.too_large(where)
            yield _columns(pyarrow.Table.from_batches([batch]), table.images)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where} is damaged ({reason(error)}): give a whole copy") from error


def _append_saved(table: Table, path: Path, findings: Findings) -> None:
    """Append what datasets' save_to_disk wrote."""
    import datasets
    import pyarrow

    try:
        found = datasets.load_from_disk(str(path))
        parts = found if isinstance(found, datasets.DatasetDict) else {"": found}
        for name, part in parts.items():
            if name and part_of(name) is None:
                findings.leave_out("part", "that is not train, validation or test", [name])
                continue
            kinds = _kinds(table, part.features.arrow_schema, f"{findings.where}/{name}")
            rows = part.select_columns(kinds).with_format("arrow")[:]
            if rows.nbytes > text_files.MOST_BYTES:
                raise text_files.too_large(findings.where)
            table.append(_columns(rows, table.images), part_of(name), f"{name} " if name else "")
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{findings.where} is no whole copy of what datasets saved ({reason(error)})"
        ) from error


def _kinds(table: Table, schema: Any, where: str) -> list[str]:
    """Return the columns that hold texts, numbers or images; note which are classes or images.

    Raises:
        UserError: if classes have other numbers than in what was read before.
    """
    import datasets
    from pyarrow import types

    try:
        features = dict(datasets.Features.from_arrow_schema(schema))
    except Exception:  # whatever other programs write there
        features = {}
    names = []
    for column in schema:
        kind, feature = column.type, features.get(column.name)
        binary = types.is_binary(kind) or types.is_large_binary(kind)
        if isinstance(feature, datasets.ClassLabel) and feature.names:
            names_before = table.class_names.setdefault(column.name, list(feature.names))
            if names_before != feature.names:
                raise UserError(
                    f"{where}: {column.name} numbers its classes otherwise than another file or "
                    f"part ({', '.join(feature.names[:5])}, ...; {', '.join(names_before[:5])}, "
                    "...): give all of them the same classes, in the same order"
                )
        inside = {field.name for field in kind} if types.is_struct(kind) else set()
        if "bytes" in inside or (binary and column.name.lower() in IMAGE_NAMES):
            table.images.add(column.name)
        elif not (
            _is_text(kind)
            or types.is_boolean(kind)
            or types.is_integer(kind)
            or types.is_floating(kind)
            or types.is_decimal(kind)
        ):
            table.unread[column.name] = str(kind)
            continue
        names.append(column.name)
    return names


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _size(column: Any) -> int:
    """Return how many bytes a column takes when each of its values stands for itself."""
    from pyarrow import compute, types

    if not types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = compute.binary_length(column.dictionary).take(column.indices)
    return int(compute.sum(lengths).as_py() or 0)


def _columns(rows: Any, images: set[str]) -> Columns:
    """Return the columns of a pyarrow table as values."""
    import pyarrow
    from pyarrow import types

    found: Columns = {}
    for name in rows.column_names:
        values: list[Any] = []
        for chunk in rows[name].chunks:
            if hasattr(chunk, "dictionary"):
                texts = chunk.dictionary.to_pylist()
                values += [None if i is None else texts[i] for i in chunk.indices.to_pylist()]
            else:
                if types.is_float32(chunk.type):  # 0.1, and not 0.10000000149
                    chunk = chunk.cast(pyarrow.string()).cast(pyarrow.float64())
                values += chunk.to_pylist()
        if name in images:
            values = [value.get("bytes") if isinstance(value, dict) else value for value in values]
        found[name] = [_number(v) if hasattr(v, "as_tuple") else v for v in values]
    return found


def _number(value: Decimal) -> int | float:
    """Return a decimal; a whole one, which may be an id, with all digits."""
    return int(value) if value == int(value) else float(value)
