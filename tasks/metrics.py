"""The scores of tables, each from predictions and labels, by the libraries that everyone uses."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the part of predictions that are right, in 0..1."""
    return float((predictions == labels).mean())


def matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return Matthews' correlation, in −1..1; 0 where all predictions are one class."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels, predictions))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the F1 of class 1, in 0..1; a prediction that is no class at all is a wrong one."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, labels=[1], average="macro", zero_division=0.0))


def balanced_accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the classes of the part of each that is right, in 0..1.

    Always to answer the same is 1 / classes, however many examples each class has.
    """
    return float(np.mean([(predictions[labels == c] == c).mean() for c in np.unique(labels)]))


def macro_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of the classes' F1, in 0..1: the classes are those that the labels have."""
    from sklearn.metrics import f1_score

    classes = np.unique(labels)
    return float(f1_score(labels, predictions, labels=classes, average="macro", zero_division=0.0))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return Pearson's correlation, in −1..1; 0 where all predictions are the same."""
    from scipy.stats import pearsonr

    if np.ptp(predictions) == 0:
        return 0.0
    correlation = float(pearsonr(predictions, labels).statistic)
    return 0.0 if math.isnan(correlation) else correlation


def squad(answers: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return SQuAD's mean F1 and exact match, in 0..1, each against an answer's best reference.

    Case, punctuation and articles do not count.
    """
    from torchmetrics.functional.text import squad as library_squad

    scores = library_squad(
        [{"id": str(i), "prediction_text": answer} for i, answer in enumerate(answers)],
        [
            # The metric looks at the texts alone; where they begin is part of its form.
            {"id": str(i), "answers": {"text": list(texts), "answer_start": [0] * len(texts)}}
            for i, texts in enumerate(references)
        ],
    )
    return {
        "squad_f1": float(scores["f1"]) / 100,
        "squad_exact": float(scores["exact_match"]) / 100,
    }


Metrics = Mapping[str, Callable[[np.ndarray, np.ndarray], float]]

OF_CLASSES: Metrics = {
    metric.__name__: metric for metric in (accuracy, balanced_accuracy, macro_f1, matthews, f1)
}
OF_NUMBERS: Metrics = {pearson.__name__: pearson}
