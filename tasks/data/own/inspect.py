"""What a user's data are: read, divided, and described in sentences."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from hydra.core.override_parser.types import Quote, QuotedString

from tasks.data.digest import digest_of
from tasks.data.own.cells import plain_text
from tasks.data.own.columns import Choice, Labels, Problem, choose, is_missing, read_labels
from tasks.data.own.findings import Findings, LeftOut
from tasks.data.own.folders import walk
from tasks.data.own.hub import hub_copy, is_name
from tasks.data.own.images import class_folders, is_image, kept_images
from tasks.data.own.splits import PARTS, Rows, divide
from tasks.data.own.tables import Table, is_saved, read_tables, table_files, take_parts
from tasks.data.readers import DataSet, Examples
from tasks.data.storage import default_data_dir
from tasks.errors import UserError

Kind = Literal["images", "texts"]
SHORTER_SIDE = 256  # pixels: what is enough for networks that see 224


@dataclass(frozen=True)
class OwnData:
    """A user's data, and what is to be said of them before anything is trained.

    Attributes:
        path: the folder or file; of a data set of the hub its copy.
        kind: what the examples are.
        problem: what is to be learnt; a regression's labels have mean 0 and deviation 1.
        data: the examples, divided.
        columns: the columns that are read, of a table: the text or texts, the label.
        scale: of a regression, the mean and the standard deviation of training's labels.
        digest: of the content of the files: other files are another data set.
        findings: what was guessed, what was left out, and warnings.
    """

    path: Path
    kind: Kind
    problem: Problem
    data: DataSet
    columns: dict[str, str]
    scale: tuple[float, float] | None
    digest: str
    findings: Findings

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; of a regression none."""
        return self.data.classes

    @property
    def guessed(self) -> list[str]:
        """What was decided for the user, and why, a sentence each."""
        return self.findings.guessed

    @property
    def left_out(self) -> list[LeftOut]:
        """What is not used; ``str`` of each is a line with some of the names."""
        return self.findings.left_out

    @property
    def warnings(self) -> list[str]:
        """What may make a comparison say little."""
        return self.findings.warnings

    @property
    def task(self) -> str:
        """The name of the task that trains on these data."""
        if self.kind == "images":
            return "own_images"
        return "own_texts" if self.problem == "classification" else "own_text_regression"

    @property
    def overrides(self) -> list[str]:
        """The words of run.py's command line that choose these data, before the shell quotes them.

        Columns that were guessed are in them: another version may guess otherwise.
        """
        columns = [f"task.data.{key}={_word(name)}" for key, name in self.columns.items()]
        return [f"task={self.task}", f"task.data.path={_word(str(self.path))}", *columns]

    def part(self, name: str) -> Examples:
        """Return the examples of train, validation or test."""
        examples: Examples = getattr(self.data, name)
        return examples

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The number of examples of each part by class; of a regression under "all"."""
        found = {}
        for name in PARTS:
            labels = self.part(name).labels
            if self.classes:
                counts = np.bincount(labels, minlength=len(self.classes)).tolist()
                found[name] = dict(zip(self.classes, counts, strict=True))
            else:
                found[name] = {"all": len(labels)}
        return found

    def describe(self) -> list[str]:
        """Return all that is to be said, a line each."""
        sizes = ", ".join(f"{len(self.part(name))} {name}" for name in PARTS)
        lines = [f"{self.findings.where}: {self.kind}, {self.problem}: {sizes}"]
        if self.classes:
            totals = {c: sum(part[c] for part in self.counts.values()) for c in self.classes}
            shown = sorted(totals, key=lambda name: -totals[name])[:10]
            named = ", ".join(f"{name} {totals[name]}" for name in shown)
            more = f", and {len(totals) - 10} more" if len(totals) > 10 else ""
            lines.append(f"{len(totals)} classes: {named}{more}")
        lines += self.guessed
        lines += [f"left out: {one}" for one in self.left_out]
        return lines + [f"warning: {line}" for line in self.warnings]


def _word(name: str) -> str:
    """Return a name as the command line takes it: in quotes where Hydra reads its signs."""
    if name.lower() != "null" and "${" not in name and name[0] not in "'\"":
        return name
    quoted: str = QuotedString(name.replace("${", r"\${"), Quote.single).with_quotes()
    return quoted


def inspect(
    path: str | Path,
    text: str | None = None,
    second_text: str | None = None,
    label: str | None = None,
    kind: Problem | None = None,
    data_dir: Path | None = None,
    shorter_side: int = SHORTER_SIDE,
) -> OwnData:
    """Read a user's data; say what they are.

    Args:
        path: a folder of folders of images; a CSV, TSV, JSON Lines or Parquet file, or a folder of
            such files; what datasets' save_to_disk wrote; or the hub's name of a data set.
        text: the column of a table with the text; None: it is guessed.
        second_text: the column of a second text, for pairs; None: it is guessed.
        label: the column with the label; None: it is guessed.
        kind: what is to be learnt of the label; None: it is guessed.
        data_dir: where decoded images are kept; None: the suite's folder of data.
        shorter_side: images are shrunk to so many pixels.

    Raises:
        UserError: if nothing can be learnt from what is there; nothing is kept then.
    """
    data_dir = data_dir or default_data_dir()
    findings = Findings(str(path))
    found = Path(path).expanduser().absolute()  # a worker may run in another folder
    try:
        is_there = bool(str(path)) and found.exists()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): correct the path") from error
    if not is_there:
        if not is_name(str(path)):
            raise UserError(f"there is no file or folder {path}: correct the path")
        found = hub_copy(str(path), data_dir)
    root = found if found.is_file() else found.resolve()  # a link's name says what the file is
    if kind not in (None, "classification", "regression"):
        raise UserError(f"kind={kind}: must be one of classification, regression")
    if not (found.is_dir() or found.is_file()):
        raise UserError(f"{path} is neither a file nor a folder: correct the path")
    if found.is_dir() and not is_saved(root) and _holds_images(root, findings):
        _refuse_columns(text=text, second_text=second_text, label=label, kind=kind)
        return _images(found, data_dir, shorter_side, findings)
    table = read_tables(root, findings)
    take_parts(table, (text, second_text, label), findings)
    if not table.names:
        raise UserError(f"{findings.where} has no rows: give the file that holds your data")
    choice = choose(table, text, second_text, label, findings)
    labels = read_labels(table, choice.label, kind, findings)
    if choice.kind == "images" and labels.problem == "regression":
        raise UserError(
            f"{path}: no task learns a number, {choice.label}, from images: kind=classification "
            "takes each value for a class"
        )
    digest = digest_of(root, ["*"], data_dir, "task.data.path")
    return _table(found, table, choice, labels, digest, data_dir, shorter_side, findings)


def _holds_images(root: Path, findings: Findings) -> bool:
    """Return whether a folder is one of images: some are in folders, or there is no table."""
    inside = (name for folder, names in walk(root, findings) if folder != root for name in names)
    return any(map(is_image, inside)) or not table_files(root, findings)


def _refuse_columns(**given: str | None) -> None:
    for key, value in given.items():
        if value not in (None, "classification"):
            raise UserError(
                f"{key}={value} is for tables, and a folder of images has none: omit it"
            )


def _table(
    path: Path,
    table: Table,
    choice: Choice,
    labels: Labels,
    digest: str,
    data_dir: Path,
    shorter: int,
    findings: Findings,
) -> OwnData:
    """Return the data in a table's columns."""
    names = table.names
    inputs: list[Any] = list(zip(*(table.columns[name] for name in choice.inputs), strict=True))
    blank = f"without {'an image' if choice.kind == 'images' else 'a text'}"
    lacking = [
        blank if any(map(is_missing, row)) else "without a label" if label is None else ""
        for row, label in zip(inputs, labels.values, strict=True)
    ]
    for why in (blank, "without a label"):
        which = [name for name, lack in zip(names, lacking, strict=True) if lack == why]
        findings.leave_out("row", why, which)
    left = [i for i, lack in enumerate(lacking) if not lack]
    if choice.kind == "images":
        sources = [partial(bytes, inputs[i][0]) for i in left]
        identity = [digest, choice.inputs[0], choice.label]
        shown = [names[i] for i in left]
        images, keys, kept = kept_images(
            sources, shown, [identity, shorter], shorter, data_dir, findings
        )
        left = [left[place] for place in kept]
        found: Any = images
    else:
        found = [tuple(map(_clean, inputs[i])) for i in left]
        keys = [_key(row) for row in found]
        if len(choice.inputs) == 1:
            found = [text for (text,) in found]
    kind = np.int64 if labels.classes else np.float64
    rows = Rows(
        keys,
        np.array([labels.values[i] for i in left], dtype=kind),
        [table.parts[i] for i in left],
        [names[i] for i in left],
        "row",
    )
    data = _data_set(found, rows, labels.classes, findings)
    scale = None
    if not labels.classes:
        data, scale = _standardised(data, choice.label, findings)
    columns = {"label": choice.label}
    if choice.kind == "texts":
        columns = dict(zip(("text", "second_text"), choice.inputs, strict=False)) | columns
    return OwnData(path, choice.kind, labels.problem, data, columns, scale, digest, findings)


def _key(texts: Sequence[str]) -> str:
    """Return the sha256 of what texts say."""
    return hashlib.sha256(json.dumps([*map(plain_text, texts)]).encode()).hexdigest()


def _clean(cell: Any) -> str:
    """Return a cell as a text without white space around it, and without halves of signs."""
    text = str(cell).strip()
    if text.isascii():
        return text  # itself: no copy of every text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _standardised(
    data: DataSet, label: str, findings: Findings
) -> tuple[DataSet, tuple[float, float]]:
    """Return the data with labels of mean 0 and deviation 1 in training: losses are of order 1."""
    mean, deviation = float(data.train.labels.mean()), float(data.train.labels.std())
    for part in PARTS:
        if np.ptp(labels := getattr(data, part).labels) == 0:
            raise UserError(
                f"{findings.where}: {label} is {labels[0]:g} in all of {part}: there is nothing to "
                "learn, or to score"
            )
    findings.guessed.append(
        f"{label} is learnt as ({label} − {mean:.8g}) / {deviation:.8g}: its mean and standard "
        "deviation in training; the trained model answers so, too"
    )
    parts: dict[str, Any] = {
        part: replace(getattr(data, part), labels=(getattr(data, part).labels - mean) / deviation)
        for part in PARTS
    }
    return replace(data, **parts), (mean, deviation)


def _images(path: Path, data_dir: Path, shorter: int, findings: Findings) -> OwnData:
    root = path.resolve()
    files = class_folders(root, findings)
    names = [name for name, _, _ in files]
    digest = digest_of(root, ["*"], data_dir, "task.data.path")
    sources = [partial(Path.read_bytes, root / name) for name in names]
    images, digests, kept = kept_images(
        sources, names, [digest, shorter], shorter, data_dir, findings
    )
    classes = tuple(sorted({files[place][2] for place in kept}))
    number = {name: label for label, name in enumerate(classes)}
    rows = Rows(
        digests,
        np.array([number[files[place][2]] for place in kept], dtype=np.int64),
        [files[place][1] for place in kept],
        [names[place] for place in kept],
        "image",
    )
    data = _data_set(images, rows, classes, findings)
    return OwnData(path, "images", "classification", data, {}, None, digest, findings)


def _data_set(inputs: object, rows: Rows, classes: tuple[str, ...], findings: Findings) -> DataSet:
    division = divide(rows, classes, findings)
    every = Examples(inputs, division.labels)
    train, validation, test = (every.take(division.indices[part]) for part in PARTS)
    return DataSet(train, test, division.classes, validation, "local copy")
