"""Which part each example belongs to: by its content alone, so that new examples move no old one.

A part that the user made stays as it is. Else the sha256 of an example, as a number in 0..1, says
where it goes: a fifth tests, a fifth of the rest validates, in every class by itself. A rule that
moves no example when others come can look at nothing but the example: so these fifths are nearly
fifths, as those of a draw. The exception is a class that a part would lack: there the example with
the nearest number moves.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.data.own.findings import Findings, listed
from tasks.errors import UserError
from tasks.format import plural

PARTS = ("train", "validation", "test")
TEST = 0.2
VALIDATION = 0.2  # of what does not test
AT_LEAST = 20  # examples in all
MAX_CLASSES = 1000
FEW = 10  # of a class: its results say little
LOPSIDED = 0.8  # a class with a larger part of all examples is warned of


@dataclass(frozen=True)
class Rows:
    """Examples before they are divided, N of them."""

    keys: Sequence[str]  # sha256 of the content, in hexadecimal digits
    labels: np.ndarray  # [N]: int64 indices into classes, or float64 values
    parts: Sequence[str | None]  # the user's own part, or None
    names: Sequence[str]  # what a message calls them
    thing: str  # "image" or "row"


@dataclass(frozen=True)
class Division:
    """Which examples each part has."""

    indices: dict[str, np.ndarray]  # int64, by part
    classes: tuple[str, ...]  # those with examples in training
    labels: np.ndarray  # [N], as those of Rows; classes are indices into those here


def divide(rows: Rows, classes: tuple[str, ...], findings: Findings) -> Division:
    """Return which examples train, validate and test.

    Left out are examples that come again, classes with a single example, and classes of a user's
    part that training does not have.

    Args:
        rows: the examples.
        classes: names of the classes; empty for a regression.
        findings: where to say what was left out.

    Raises:
        UserError: if there are too few examples or classes, or too many classes.
    """
    if len(classes) > MAX_CLASSES:
        raise UserError(
            f"{findings.where} has {len(classes)} classes ({listed(classes)}), and "
            f"{MAX_CLASSES} are the most that can be compared: choose another label, or fewer"
        )
    alike = Counter(map(_as_seen, classes))
    if twice := [name for name in classes if alike[_as_seen(name)] > 1]:
        findings.warnings.append(
            f"classes that differ in case alone, or in signs that are not seen: "
            f"{', '.join(twice[:10])}"
        )
    given = {part for part in rows.parts if part}
    if rows.parts and not set(rows.parts) & {None, "train"}:
        raise UserError(
            f"{findings.where} has examples for {' and '.join(sorted(given))} alone: add those for "
            "training, or name the parts in no file, folder or column, and they are made"
        )
    taken = [part for part in PARTS[1:] if part not in given]
    kept = _first_of_equals(rows, findings)
    if classes:
        kept = _trainable(rows, classes, kept, taken, findings)
    numbers = np.array([int(key[:13], 16) / 16**13 for key in rows.keys])
    divided: dict[str, list[int]] = {part: [] for part in PARTS}
    for index in kept:
        if rows.parts[index] in PARTS[1:]:
            divided[str(rows.parts[index])].append(index)
    undivided = [index for index in kept if rows.parts[index] in (None, "train")]
    groups: dict[int, list[int]] = {}
    for index in sorted(undivided, key=lambda index: numbers[index]):
        groups.setdefault(int(rows.labels[index]) if classes else 0, []).append(index)
    for group in groups.values():
        first, second = _cuts(numbers[group], "test" in taken, "validation" in taken)
        ends = {"test": group[:first], "validation": group[first:second], "train": group[second:]}
        for part, indices in ends.items():
            divided[part] += indices
    found = {part: np.array(sorted(divided[part]), dtype=np.int64) for part in PARTS}
    names, labels = _renumbered(rows.labels, found["train"], classes)
    _check(found, names, labels, findings)
    return Division(found, names, labels)


def _as_seen(name: str) -> str:
    """Return a class's name without case, and without signs such as spaces of no width."""
    return "".join(sign for sign in name.lower() if unicodedata.category(sign) != "Cf")


def _first_of_equals(rows: Rows, findings: Findings) -> list[int]:
    """Return the indices without examples that come again, those of training first of all."""
    rank = {"test": 0, "validation": 1}  # what a user's test part has, nothing else may have
    order = sorted(range(len(rows.keys)), key=lambda index: rank.get(str(rows.parts[index]), 2))
    first: dict[str, int] = {}
    again, other = list[str](), list[str]()
    across, other_across = list[str](), list[str]()
    for index in order:
        same = first.setdefault(rows.keys[index], index)
        if same == index:
            continue
        differs = rows.labels[same] != rows.labels[index]
        if rows.parts[same] != rows.parts[index]:
            (other_across if differs else across).append(rows.names[index])
        else:
            (other if differs else again).append(rows.names[index])
    for why, names in (
        ("that another part has, too (test keeps it)", across),
        ("that another part has with another label (test keeps it)", other_across),
        ("that came before with another label (the first stays)", other),
        ("that came before", again),
    ):
        findings.leave_out(rows.thing, why, names)
    return sorted(first.values())


def _trainable(
    rows: Rows, classes: tuple[str, ...], kept: list[int], taken: list[str], findings: Findings
) -> list[int]:
    """Return the indices without those of classes that cannot be learnt and tested."""
    training = Counter(int(rows.labels[i]) for i in kept if rows.parts[i] in (None, "train"))
    single = {label for label, count in training.items() if count == 1 and "test" in taken}
    unseen = [i for i in kept if not training[int(rows.labels[i])]]
    for part in PARTS[1:]:
        findings.leave_out(
            rows.thing,
            f"of {part} whose class training does not have",
            [_with_class(rows, classes, i) for i in unseen if rows.parts[i] == part],
        )
    alone = [i for i in kept if int(rows.labels[i]) in single]
    names = [_with_class(rows, classes, i) for i in alone]
    findings.leave_out(rows.thing, "with no other of the same class", names)
    gone = {*unseen, *alone}
    return [index for index in kept if index not in gone]


def _with_class(rows: Rows, classes: tuple[str, ...], index: int) -> str:
    return f"{rows.names[index]} ({classes[int(rows.labels[index])]})"


def _cuts(numbers: np.ndarray, test: bool, validation: bool) -> tuple[int, int]:
    """Return how many of a class's examples, by increasing number, test, and do not train."""
    count = len(numbers)
    below = TEST if test else 0.0
    first = int(np.searchsorted(numbers, below))
    second = (
        int(np.searchsorted(numbers, below + (1 - below) * VALIDATION)) if validation else first
    )
    if count > test + validation:
        first = min(max(first, test), count - 1 - validation)
        return first, min(max(second, first + validation), count - 1)
    if count == 2:  # one trains; of two the smaller number is below .3 half of the time
        return int(numbers[0] < 0.3), 1
    return 0, 0


def _renumbered(
    labels: np.ndarray, train: np.ndarray, classes: tuple[str, ...]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the classes that training has, and the labels as indices into them."""
    if not classes:
        return classes, labels
    left = np.unique(labels[train])
    return tuple(classes[label] for label in left), np.searchsorted(left, labels)


def _check(
    found: dict[str, np.ndarray], classes: tuple[str, ...], labels: np.ndarray, findings: Findings
) -> None:
    """Refuse what nothing can be learnt from, and warn of what little can be."""
    every = np.concatenate([found[part] for part in PARTS])
    because = findings.because()
    if len(every) < AT_LEAST:
        raise UserError(
            f"{findings.where} has {plural(len(every), 'example')} that can be used{because}, and "
            f"a comparison needs at least {AT_LEAST}: add more"
        )
    if len(classes) == 1:
        raise UserError(
            f"{findings.where}: all {len(every)} examples are of one class, {classes[0]}{because}: "
            "there is nothing to learn; add another class"
        )
    for part in PARTS:
        if not len(found[part]):
            raise UserError(
                f"{findings.where}: no example is left for {part}{because}: add some, or leave the "
                "division into parts to this program"
            )
    if not classes:
        if few := [part for part in PARTS[1:] if len(found[part]) < FEW]:
            findings.warnings.append(f"fewer than {FEW} examples in {' and '.join(few)}")
        return
    counts = np.bincount(labels[every], minlength=len(classes))
    largest = counts.argmax()
    if counts[largest] > LOPSIDED * len(every):
        findings.warnings.append(
            f"{counts[largest] / len(every):.1%} of the examples are {classes[largest]}: always to "
            "answer that has this accuracy; balanced accuracy or macro F1 say more"
        )
    if few := [classes[label] for label in np.flatnonzero(counts < FEW)]:
        findings.warnings.append(f"fewer than {FEW} examples of {listed(few)}")
    for part in PARTS[1:]:
        lacking = sorted(set(range(len(classes))) - set(labels[found[part]].tolist()))
        if lacking:
            names = listed([classes[label] for label in lacking])
            findings.warnings.append(f"{part} has no example of {names}")
