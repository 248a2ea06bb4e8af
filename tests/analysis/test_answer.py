"""The answer of a comparison in words."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.answer import SEEDS_OF_LOOKS, answer, confidence_of, seeds_needed
from analysis.comparison import Cell
from analysis.statistics import BreakEven, RedOfMeans, red_of_means, verdict

NAMES = {"dog": ("DoG", "reference", "default"), "adamw": ("AdamW", "tuned", "instance-tuned")}


def cell(optimizer, errors, red=0.0, **changes):
    label, role, row = NAMES[optimizer]
    values = {
        "optimizer": optimizer, "label": label, "role": role, "row": row, "edge": False,
        "setting": "lr=0.001" if role == "tuned" else "", "test": 1 - np.mean(errors),
        "test_half_width": 0.008, "last": 0.8, "averaged": 0.8, "red": red, "red_of_pairs": red,
        "seeds": len(errors), "tried": len(errors), "diverged": 0, "runs_elsewhere": 0,
        "runs": 9 if role == "tuned" else 1, "hours": 41 / 60, "errors": dict(enumerate(errors)),
    }  # fmt: skip
    return Cell(**{**values, **changes})


def said(
    dog,
    tuned,
    look=1,
    tries=5,
    examples=1000,
    metric="accuracy",
    constant=None,
    one_error=0.0,
    **changes,
):
    """The answer for errors by seed of both sides."""
    curve = BreakEven(np.zeros(9), np.zeros(9), tries)
    reference = cell("dog", dog)
    comparison = SimpleNamespace(
        cells=[reference, cell("adamw", tuned, **changes)],
        reference=reference,
        break_even={"adamw": curve},
        problem=pd.Series(
            {"model": "minilm", "steps": 400, "metric": metric, "higher_is_better": True,
             "test_examples": examples, "test_majority": 0.5}
        ),
    )  # fmt: skip
    one_error = 1 / examples if metric == "accuracy" else one_error
    return answer(comparison, "adamw", "reviews.csv", look, constant, one_error)


def optimizers(found):
    return [cell.optimizer for cell in found.sides]


def test_non_inferior_says_what_tuning_costs_and_what_to_use():
    found = said([0.20, 0.21, 0.22], [0.198, 0.208, 0.218])
    first, verdict, cost, use = found.sentences
    assert first == (
        "On reviews.csv with minilm (3 seeds, 400 steps), test accuracy: DoG 79.0 ± 0.8 %, "
        "AdamW tuned over 9 rates 79.2 ± 0.8 %."
    )
    assert verdict == (
        "DoG is non-inferior: the error of tuned AdamW is at most 1.7 % smaller than DoG's "
        "(margin 5 %, 97.5 % interval)."
    )
    assert cost == "Tuning AdamW costs 9 runs, 41 min, and catches up with DoG after 5 runs."
    assert use == "Use DoG, and tune no learning rate." and optimizers(found) == ["dog"]


def test_better_and_never_caught_up():
    found = said([0.20, 0.21, 0.22], [0.25, 0.26, 0.27], tries=None)
    assert (
        "DoG is better: the error of tuned AdamW is at least 20.3 % larger than DoG's"
        in found.sentences[1]
    )
    assert found.sentences[2].endswith("9 runs, 41 min, and does not catch up with DoG.")
    assert optimizers(found) == ["dog"]


def test_a_best_rate_at_the_edge_of_the_grid_is_said():
    scores = [0.20, 0.21, 0.22], [0.25, 0.26, 0.27]
    assert said(*scores, edge=True).sentences[1] == (
        "The best rate of AdamW (lr=0.001) is the lowest or the highest of those tried: one beyond "
        "it may be better."
    )
    assert not any("beyond" in sentence for sentence in said(*scores).sentences)


def test_worse_says_do_not_and_which_rate():
    found = said([0.20, 0.21, 0.22], [0.15, 0.16, 0.17])
    assert (
        "DoG is worse: the error of tuned AdamW is 20.3 % to 28.7 % smaller" in found.sentences[1]
    )
    assert found.sentences[-1] == "Do not use DoG here: use AdamW, lr=0.001."
    assert optimizers(found) == ["adamw"]


def test_correlation_is_no_percentage_and_its_error_is_explained():
    found = said([0.20, 0.21, 0.22], [0.198, 0.208, 0.218], metric="pearson")
    assert "test pearson: DoG 0.790 ± 0.008, AdamW tuned" in found.sentences[0]
    assert "the error (1 − pearson) of tuned AdamW is at most 1.1 % smaller" in found.sentences[1]


def test_worse_says_where_dog_has_learnt_nothing():
    found = said([0.50, 0.51, 0.52], [0.15, 0.16, 0.17])
    assert found.sentences[-2].startswith(
        "In 400 steps DoG has become no better than always predicting the same: "
    )
    assert found.sentences[-1].startswith("Do not use DoG here")


def test_open_verdict_says_how_many_seeds_would_tell():
    found = said([0.20, 0.21, 0.22], [0.205, 0.205, 0.222])
    assert "Cannot tell: the error of tuned AdamW is between" in found.sentences[1]
    _, high = red_of_means([0.20, 0.21, 0.22], [0.205, 0.205, 0.222]).interval(0.975)
    assert found.sentences[2] == (
        f"If {100 * high * 0.21:.1f} points of accuracy do not matter to you, use DoG, and tune "
        "nothing: it gives up no more (97.5 % interval). Tuning AdamW costs 9 runs, 41 min."
    )
    assert found.sentences[3] == f"About {found.more_seeds} seeds in all would tell."
    assert 3 < found.more_seeds <= 50 and optimizers(found) == ["dog", "adamw"]


def test_seeds_that_end_far_apart_cannot_tell_by_how_much():
    found = said([0.497, 0.058, 0.497], [0.04, 0.042, 0.046])
    assert found.verdict == "inconclusive"
    assert "% smaller, or larger by any amount, than DoG's (margin" in found.sentences[1]


@pytest.mark.parametrize(
    ("dog", "tuned", "changes", "words"),
    [
        ([0.002, 0.003], [0.002, 0.003], {"red": np.nan}, "fewer than 10 errors on 1000 test"),
        ([0.002, 0.003], [0.002, 0.003], {"red": np.nan}, "takes 4000 test examples or more"),
        ([0.0, 0.0], [0.002, 0.003], {"red": np.nan}, "A harder test part would tell"),
        ([0.5, 0.5], [0.52, 0.5], {}, "neither is better than always predicting the same"),
        # Always the same class, which is not the most frequent one in training.
        ([0.52, 0.52], [0.48, 0.48], {"constant": 0.52}, "neither is better than always predict"),
        ([0.2], [0.2], {}, "fewer than 2 runs"),
    ],
)
def test_what_no_interval_can_tell_is_said(dog, tuned, changes, words):
    found = said(dog, tuned, **changes)
    assert found.sentences[-1].startswith("Cannot tell: ") and words in found.sentences[-1]
    assert found.more_seeds is None and optimizers(found) == ["dog", "adamw"]


def test_either_will_do_only_where_both_make_few_errors_for_the_size_of_the_test_part():
    few = {"red": np.nan}
    assert "Either will do" in said([0.002, 0.003], [0.002, 0.003], **few).sentences[-1]
    assert "Either will do" not in said([0.1, 0.2], [0.0, 0.0], examples=41, **few).sentences[-1]
    assert "Either will do" not in said([0.0, 0.0], [0.3, 0.3], **few).sentences[-1]


def test_equal_numbers_of_errors_on_a_small_test_part_prove_little():
    # 12 of 30 errors and 11 of 30, on each of three seeds; or 12,000 and 11,000 of 30,000.
    errors = 3 * [12 / 30], 3 * [11 / 30]
    assert said(*errors, examples=30).verdict == "inconclusive"
    assert said(*errors, examples=30_000).verdict == "worse"


def test_equal_scores_prove_little_where_one_answer_is_much_of_them():
    # One of two rare test examples is wrong on each of three seeds; or none.
    errors = 3 * [0.25], 3 * [0.0]
    assert said(*errors, metric="balanced_accuracy", one_error=0.25).verdict == "inconclusive"
    assert said(*errors, metric="balanced_accuracy", one_error=0.001).verdict == "worse"


def test_later_looks_are_more_careful():
    assert sum(1 - confidence_of(look) for look in range(1, 60)) == pytest.approx(0.05)
    errors = [0.20, 0.21, 0.22], [0.196, 0.205, 0.217]
    assert [said(*errors, look).verdict for look in (1, 4)] == ["non-inferior", "inconclusive"]


def test_seeds_needed_by_hand():
    # At RED 0 with a standard error of 0.03 of 4 seeds, n seeds have 0.06 / √n. After a first look,
    # 5 seeds are looked at with 98.75 %, t 4.31: 0.116; 8 with 99.375 %, t 3.86: 0.082;
    # 12 with 99.6875 %, t 3.77: 0.065; 18 with 99.84375 %, t 3.76: 0.053; 27: 0.044 < 0.05.
    assert seeds_needed(RedOfMeans(0.0, 0.03, 3.0), 4, 1) == 27
    # Just below the margin an interval above 0 tells: 8 seeds have 0.055; 12: 0.044 < 0.049.
    assert seeds_needed(RedOfMeans(0.049, 0.02, 3.0), 4, 1) == 12
    # DoG's mean error is off by 40 %, of 8 seeds by 28 %: it may be 0; of 12 by 23 % < 1 / 3.77.
    assert seeds_needed(RedOfMeans(0.3, 0.001, 3.0, of_reference=0.16), 4, 1) == 12
    assert seeds_needed(RedOfMeans(0.3, 0.02, 3.0), 4, 1) == 5
    assert seeds_needed(RedOfMeans(0.0, 0.03, 3.0), 40, 1) is None  # more are never looked at


@pytest.mark.parametrize("red", [0.0, 0.05])
def test_looks_at_more_and_more_seeds_are_right_together_in_95_of_100_comparisons(red):
    # DoG's errors and another's, paired by seed; whoever cannot tell adds seeds and looks again.
    generator, wrong, looks = np.random.RandomState(0), 0, 0
    for _ in range(1000):
        spreads = [[0.01], [0.005], [0.005]]
        shared, dog, other = generator.normal(0, spreads, (3, SEEDS_OF_LOOKS[-1]))
        dog, other = 0.2 + shared + dog, 0.2 * (1 - red) + shared + other
        for look, seeds in enumerate(SEEDS_OF_LOOKS, start=1):
            low, high = red_of_means(dog[:seeds], other[:seeds]).interval(confidence_of(look))
            wrong, looks = wrong + (not low <= red <= high), looks + 1
            if verdict(low, high) != "inconclusive" or not low <= red <= high:
                break
    assert looks > 2000
    assert wrong <= 50
