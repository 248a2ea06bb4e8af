"""Scores, each against numbers worked out by hand."""

import numpy as np
import pytest

from tasks.metrics import accuracy, balanced_accuracy, f1, macro_f1, matthews, pearson, squad


def test_matthews_of_a_confusion_matrix():
    # TP 2, FN 1, TN 1, FP 1: (2·1 − 1·1) / √(3·3·2·2)
    labels, predictions = np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 0, 1])
    assert matthews(predictions, labels) == pytest.approx(1 / 6)
    assert matthews(np.ones(5, int), labels) == 0


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [([1, 1, 1, 0], 0.8), ([1, -1, 1, 0], 0.5), ([-1, -1, -1, -1], 0.0), ([1, 1, 0, -1], 1.0)],
)
def test_f1_counts_no_class_as_a_wrong_answer(predictions, expected):
    # Second: TP 1, FP 1, FN 1. Last: what is no class was not called class 1, either.
    assert f1(np.array(predictions), np.array([1, 1, 0, 0])) == pytest.approx(expected)


def test_an_answer_that_is_no_class_is_wrong():
    assert accuracy(np.array([1, -1, 0, -1]), np.array([1, 1, 0, 0])) == 0.5
    assert matthews(np.full(4, -1), np.array([1, 1, 0, 0])) == 0


def test_classes_count_alike_in_balanced_accuracy_and_macro_f1():
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
    predictions = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0, -1])
    # Right: 5 of 6, 1 of 2, none of 2. F1: 10 / (10 + 1 + 2), 2 / (2 + 1 + 1), 0.
    assert balanced_accuracy(predictions, labels) == pytest.approx((5 / 6 + 1 / 2) / 3)
    assert macro_f1(predictions, labels) == pytest.approx((10 / 13 + 1 / 2) / 3)
    assert balanced_accuracy(np.zeros(10, int), labels) == pytest.approx(1 / 3)
    # A class that the labels do not have counts for neither.
    assert balanced_accuracy(np.array([0, 3]), np.array([0, 0])) == 0.5
    assert macro_f1(np.array([0, 3]), np.array([0, 0])) == pytest.approx(2 / 3)


def test_pearson_by_hand_and_of_constants():
    # Deviations (−1, 0, 1) and (−1, 1, 0): 1 / √(2·2)
    assert pearson(np.array([0.0, 1, 2]), np.array([0.0, 2, 1])) == pytest.approx(0.5)
    assert pearson(np.zeros(3), np.array([0.0, 2, 1])) == 0


@pytest.mark.parametrize(
    ("answer", "references", "f1_score", "exact"),
    [
        ("The Cat!", ["cat"], 1, 1),
        ("a black, cat", ["dog", "the black cat"], 1, 1),
        ("big black cat", ["the black cat sat"], 2 / 3, 0),  # 2 of 3 words on either side
        ("big black cat", ["black", "the black cat sat"], 2 / 3, 0),
        ("", ["cat"], 0, 0),
    ],
)
def test_squad_is_the_best_over_references_without_case_articles_and_punctuation(
    answer, references, f1_score, exact
):
    scores = squad([answer], [references])
    assert scores["squad_f1"] == pytest.approx(f1_score) and scores["squad_exact"] == exact


def test_squad_is_the_mean_over_questions():
    assert squad(["cat", "cat"], [["cat"], ["dog"]])["squad_f1"] == pytest.approx(0.5)
