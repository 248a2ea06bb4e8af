"""The division into parts: by content alone, nearly a fifth of every class, all parts of it."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from tasks.data.own.findings import Findings
from tasks.data.own.splits import PARTS, Rows, divide
from tasks.errors import UserError


def rows(labels, parts=None):
    """Examples whose content is their number."""
    names = [str(number) for number in range(len(labels))]
    keys = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    return Rows(keys, np.array(labels), parts or [None] * len(labels), names, "row")


def shares(labels, parts=None):
    """The number of examples of each part by class, [3, classes]."""
    classes = tuple(map(str, range(max(labels) + 1)))
    division = divide(rows(labels, parts), classes, Findings("rows"))
    counts = [
        np.bincount(division.labels[division.indices[p]], minlength=len(classes)) for p in PARTS
    ]
    assert sum(map(sum, counts)) == len(labels)
    return np.array(counts)


def test_every_class_is_divided_by_fifths():
    counts = shares([0] * 6000 + [1] * 600 + [2] * 3000)
    whole = np.array([[0.64], [0.16], [0.2]]) * [6000, 600, 3000]
    assert (abs(counts - whole) < 4 * np.sqrt(whole)).all()


@pytest.mark.parametrize("size", [3, 4, 6, 9])
def test_small_classes_are_in_every_part(size):
    counts = shares([number // size for number in range(size * 40)])
    assert (counts >= 1).all()


@pytest.mark.parametrize(("given", "size"), [("test", 2), ("validation", 2), ("test", 5)])
def test_part_that_is_lacking_has_every_class(given, size):
    labels = [number // size for number in range(size * 20)]
    counts = shares(labels + list(range(20)), ["train"] * len(labels) + [given] * 20)
    assert (counts >= 1).all() and (counts[PARTS.index(given)] == 1).all()


def test_added_examples_move_no_other_of_a_class_that_every_part_has():
    few, more = (
        divide(rows([n % 3 for n in range(count)]), ("a", "b", "c"), Findings("rows")).indices
        for count in (150, 400)
    )
    assert all(set(few[part]) <= set(more[part]) for part in PARTS)


def test_training_that_a_users_test_part_holds_already_is_refused():
    same = rows([0, 1] * 15, ["train", "train"] * 14 + ["test"] * 2)
    keys = [same.keys[-1]] * 28 + list(same.keys[-2:])
    with pytest.raises(
        UserError, match=r"0 examples that can be used \(left out: 14 rows that another"
    ):
        divide(replace(same, keys=keys), ("a", "b"), Findings("rows"))
