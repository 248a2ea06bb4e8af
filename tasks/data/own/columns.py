"""Which columns of a table are the text and the label, and what is to be learnt of the label."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np

from tasks.data.own.cells import NO_VALUE, ODD, REPEATED, is_number, plain_text
from tasks.data.own.findings import Findings, listed
from tasks.data.own.images import is_image
from tasks.data.own.tables import Table
from tasks.errors import UserError
from tasks.format import did_you_mean, plural

Problem = Literal["classification", "regression"]

# What people call their columns, the likeliest first.
LABELS = (
    *("label", "labels", "target", "class", "category", "sentiment", "polarity", "rating"),
    *("ratings", "stars", "starrating", "score", "overall", "topic", "intent", "emotion", "y"),
)
TEXTS = (
    *("text", "sentence", "review", "reviewtext", "content", "body", "comment", "tweet", "message"),
    *("document", "description", "abstract", "utterance", "question", "sms", "title"),
)
PAIRS = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2")),
    *(("question", "sentence"), ("question", "passage"), ("text1", "text2"), ("texta", "textb")),
    ("query", "document"),
)
IDS = {"id", "idx", "index", "uuid", "guid", "key", "row", "rownumber"}
IDS |= {"date", "datetime", "timestamp", "fold", "split"}  # no labels, either, unless one says so

# Columns of these names say whose a row is: several rows may be one person's.
OWNERS = {"author", "client", "customer", "patient", "participant", "person", "session"}
OWNERS |= {"speaker", "subject", "user"}

FEW = 50  # a label that is not named so has at most so many values
FAR = 3  # times as far from the median as any other number
MANY = 20  # a number with more values is a regression's; with fractions, half as many


@dataclass(frozen=True)
class Choice:
    """The columns that are read."""

    inputs: tuple[str, ...]  # a text, a pair of texts, or an image
    label: str
    kind: Literal["images", "texts"]


def choose(
    table: Table, text: str | None, second: str | None, label: str | None, findings: Findings
) -> Choice:
    """Return the columns that the user named, or else those that look like it.

    Raises:
        UserError: if there is no such column, or none looks like it.
    """
    for key, name in (("text", text), ("second_text", second), ("label", label)):
        if name in table.unread:
            raise UserError(
                f"{findings.where}: {key}={name} holds {table.unread[name]}, and texts and numbers "
                "are read: save it as one of these"
            )
        if name is not None and name not in table.columns:
            near = did_you_mean(name, table.columns)
            raise UserError(f"{findings.where} has no column {key}={name}: {near}")
    if label is None:
        label = _label(table, [name for name in (text, second) if name], findings)
    images = [name for name in table.images if name in table.columns]
    if images and text is None:
        findings.guessed.append(f"images: column {images[0]}")
        return Choice((images[0],), label, "images")
    inputs = [text] if text else _texts(table, label, second, findings)
    if second and second not in inputs:
        inputs = [inputs[0], second]
    if label in inputs:
        raise UserError(
            f"{findings.where}: {label} cannot be both text and label: say label=COLUMN"
        )
    if all(is_image(str(cell)) for cell in table.columns[inputs[0]][:99]):
        raise UserError(
            f"{findings.where}: {inputs[0]} holds names of images: put the images into a folder "
            "for each class, and give the folder above them"
        )
    unread = [name for name in table.columns if name not in (*inputs, label)]
    groups = [name for name in unread if _is_of_groups(name, table.columns[name])]
    if groups and not any(table.parts):
        findings.warnings.append(
            f"rows with one {groups[0]} are in several parts, and scores may be too good for it: a "
            "column split that says train or test keeps them together"
        )
    unread += [f"{name} ({kind})" for name, kind in table.unread.items()]
    if unread:
        findings.guessed.append(f"columns that are not read: {listed(unread)}")
    return Choice(tuple(inputs), label, "texts")


def _label(table: Table, texts: list[str], findings: Findings) -> str:
    others = [
        name for name in table.columns if name not in (*texts, *table.images) and not _is_id(name)
    ]
    named = {_plain(name): name for name in reversed(others)}
    for name in LABELS:
        if name in named:
            findings.guessed.append(f"label: column {named[name]}, by its name")
            return named[name]
    if classes := [name for name in others if name in table.class_names]:
        findings.guessed.append(f"label: column {classes[-1]}, which has names of classes")
        return classes[-1]
    counts = {name: _count(table.columns[name]) for name in others}
    few = [
        name
        for name, (values, distinct) in counts.items()
        if 2 <= distinct <= FEW and values >= REPEATED * distinct
    ]
    if few:
        fewest = min(reversed(few), key=lambda name: counts[name][1])
        also = [name for name in few if name != fewest]
        more = f" (or is it {' or '.join(also)}? Say label=COLUMN)" if also else ""
        findings.guessed.append(f"label: column {fewest}, of {counts[fewest][1]} values{more}")
        return fewest
    numbers = [
        name
        for name in others
        if name != "column1"  # numbers without a name above them may count rows
        and counts[name][1] > 1
        and (found := _numbers(table.columns[name])) is not None
        and not _names_rows(name, found)
    ]
    if len(numbers) == 1:
        findings.guessed.append(f"label: column {numbers[0]}, the only one of numbers")
        return numbers[0]
    for name in others:
        _refuse_odd_cells(name, table.columns[name], findings.where)
    raise UserError(
        f"{findings.where}: no column looks like a label (a few values that come again): say "
        f"label=COLUMN, one of {', '.join(table.columns)}"
    )


def _texts(table: Table, label: str, second: str | None, findings: Findings) -> list[str]:
    words = [
        name
        for name, values in table.columns.items()
        if name not in (label, second, *table.images)
        and any(isinstance(value, str) and value.strip() for value in values)
        and _numbers(values) is None
    ]
    named = {_plain(name): name for name in reversed(words)}
    for pair in PAIRS if second is None else ():
        if all(name in named for name in pair):
            found = [named[name] for name in pair]
            findings.guessed.append(f"texts: columns {found[0]} and {found[1]}, by their names")
            return found
    for name in TEXTS:
        if name in named:
            findings.guessed.append(f"text: column {named[name]}, by its name")
            return [named[name]]
    if not words:
        raise UserError(
            f"{findings.where}: no column holds texts beside the label {label}: say text=COLUMN, "
            f"label=COLUMN; there are {', '.join(table.columns)}"
        )
    longest = max(words, key=lambda name: sum(len(str(v or "")) for v in table.columns[name]))
    findings.guessed.append(f"text: column {longest}, the one with the longest texts")
    return [longest]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _is_id(name: str) -> bool:
    plain = _plain(name)
    return plain in IDS or plain.startswith(("unnamed", "indexlevel"))  # pandas' index


def _is_of_groups(name: str, values: list[Any]) -> bool:
    """Return whether a column is called as those that say whose a row is, and has each often."""
    words = re.findall("[a-z]+", re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower())
    rows, distinct = _count(values)
    is_called_so = words[-1:] == ["id"] or not OWNERS.isdisjoint(words)
    # The number of a class, category_id, is no person's.
    return is_called_so and rows >= 2 * distinct >= 20 and not {*words} & {*LABELS}


def _present(values: list[Any]) -> list[Any]:
    """Return the values that are there."""
    return [value for value in values if not is_missing(value)]


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty."""
    if isinstance(value, str):
        return not value.strip()
    return not isinstance(value, int | float | bytes) or value != value  # None, lists; no number


def _count(values: list[Any]) -> tuple[int, int]:
    """Return how many values there are, and how many different ones."""
    present = _present(values)
    return len(present), len(set(present))


def _numbers(values: list[Any]) -> np.ndarray | None:
    """Return the values that are there as numbers; None if one is none, or there is none."""
    present = _present(values)
    if not present or not all(map(_is_number, present)):
        return None
    return np.array([float(value) for value in present])


def _is_number(value: Any) -> bool:
    return is_number(value) and not isinstance(value, bool)


@dataclass(frozen=True)
class Labels:
    """A column of labels, read."""

    problem: Problem
    values: list[Any]  # [N]: a class's index or a number; None where there is none
    classes: tuple[str, ...]


def read_labels(table: Table, label: str, kind: Problem | None, findings: Findings) -> Labels:
    """Return what is to be learnt of a column, and its values.

    Raises:
        UserError: if nothing can be.
    """
    values, where = table.columns[label], findings.where
    if label in table.class_names and kind != "regression":
        names = table.class_names[label]
        inside = [v if isinstance(v, int) and 0 <= v < len(names) else None for v in values]
        return Labels("classification", inside, tuple(names))
    present = _present(values)
    if not present:
        raise UserError(f"{where}: {label} holds neither words nor numbers: say label=COLUMN")
    numbers = _numbers(values)
    if kind == "regression" and numbers is None:
        odd = next(value for value in present if not _is_number(value))
        raise UserError(
            f"{where}: {label} has {odd!r}, which is no number: empty such cells, or leave out "
            "kind="
        )
    if kind is None and numbers is None:
        _refuse_odd_cells(label, values, where)
    _refuse_id(label, present, numbers, kind, where)
    if kind is None and numbers is not None:
        kind = _kind(label, numbers, findings)
    if kind == "regression":
        _warn_of_spread(label, numbers, findings)
        known = [None if is_missing(value) else float(value) for value in values]
        return Labels("regression", known, ())
    text_of = _number_text if numbers is not None else plain_text
    texts = [None if is_missing(value) else text_of(value) for value in values]
    order = (lambda t: (float(t), t)) if numbers is not None else (lambda t: (0.0, t))
    classes = tuple(sorted({t for t in texts if t is not None}, key=order))
    if nothing := [name for name in classes if name in NO_VALUE]:
        findings.warnings.append(f"{listed(nothing)} is a class: empty the cells if it is none")
    if numbers is not None:
        findings.warnings += _written_otherwise(values, texts)
    index = {name: i for i, name in enumerate(classes)}
    return Labels("classification", [None if t is None else index[t] for t in texts], classes)


def _refuse_odd_cells(label: str, values: list[Any], where: str) -> None:
    """Refuse a number to be learnt that some cells do not say: they would make classes of all."""
    present = _present(values)
    odd = [value for value in present if not _is_number(value)]
    if not 0 < len(odd) <= ODD * len(present):
        return
    numbers = np.array([float(value) for value in present if _is_number(value)])
    if _kind(label, numbers, Findings(where)) == "regression":
        raise UserError(
            f"{where}: {label} is a number but in {plural(len(odd), 'row')} "
            f"({listed([str(value)[:20] for value in odd])}): correct or empty these, or say "
            "kind=classification, which takes each value for a class"
        )


def _warn_of_spread(label: str, numbers: Any, findings: Findings) -> None:
    """Warn of one value, such as a sum or a sign for none, that decides the deviation of all."""
    distances = np.abs(numbers - np.median(numbers))
    far = distances == (farthest := distances.max())
    if not 0 < FAR * distances[~far].max(initial=0) < farthest:
        return
    if far.sum() > ((distances[~far] / farthest) ** 2).sum():
        findings.warnings.append(
            f"{label} is {numbers[far][0]:.8g} in {plural(int(far.sum()), 'row')}, far from all "
            "others: empty these cells if they hold a sum, or stand for no number"
        )


def _kind(label: str, numbers: np.ndarray, findings: Findings) -> Problem:
    distinct = np.unique(numbers)
    whole = bool((distinct == distinct.round()).all())
    counted = whole and distinct[0] in (0, 1) and len(distinct) == np.ptp(distinct) + 1
    if counted and _plain(label) in ("label", "labels", "class", "category", "intent", "topic"):
        return "classification"  # 0, 1, 2, ... are how programs write classes
    if len(distinct) > (MANY if whole else MANY // 2):
        findings.guessed.append(
            f"{label} is a number with {len(distinct)} values: a regression (kind=classification "
            "takes each value for a class)"
        )
        return "regression"
    findings.guessed.append(
        f"{label} is a number with {len(distinct)} values: each is a class (kind=regression learns "
        "the number)"
    )
    return "classification"


def _refuse_id(
    label: str, present: list[Any], numbers: np.ndarray | None, kind: Problem | None, where: str
) -> None:
    """Refuse a label that is another one in nearly every row."""
    distinct = len(set(present))
    if numbers is not None and kind != "classification":
        if not _names_rows(label, numbers):
            return
    elif distinct < 10 or 3 * distinct <= 2 * len(present):
        return
    shown = ", ".join(str(value)[:20] for value in present[:3])
    raise UserError(
        f"{where}: {label} has {distinct} values in {len(present)} rows ({shown}, ...), as an "
        "id or a text has, and no label: name the label's column, label=COLUMN"
    )


def _written_otherwise(values: list[Any], classes: list[str | None]) -> list[str]:
    """Return a warning of texts that are one number, and may be names: 1.1 and 1.10 of sections."""
    forms: dict[str | None, set[str]] = {}
    for value, name in zip(values, classes, strict=True):
        if isinstance(value, str):
            forms.setdefault(name, set()).add(value.strip())
    several = [" and ".join(sorted(f)) for f in forms.values() if len(f) > 1]
    if not several:
        return []
    return [
        f"one class, as numbers that are equal: {listed(several)}; write names if they are none"
    ]


def _names_rows(column: str, numbers: np.ndarray) -> bool:
    """Return whether numbers count rows, or are called so: whole, each once, close together."""
    once = len(set(numbers)) == len(numbers) >= 10 and bool((numbers == numbers.round()).all())
    return once and (_is_id(column) or np.ptp(numbers) < 2 * len(numbers))


def _number_text(value: Any) -> str:
    """Return a number as its class is called: whole ones with all digits, as ids have many."""
    number = float(value)
    return f"{Decimal(str(value).strip()):.0f}" if number.is_integer() else f"{number:.12g}"
