"""The answer of a comparison in words: can the learning rate be left untuned here?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.choice import INSTANCE_TUNED, is_grid_run, validation_score
from analysis.comparison import Cell, Comparison
from analysis.roles import TUNED
from analysis.statistics import (
    LEAST_ERRORS,
    MARGIN,
    RATES,
    RedOfMeans,
    Verdict,
    error_name,
    gain,
    is_in_percent,
    red_of_means,
    verdict,
)
from analysis.tables.models import by_seed
from analysis.tables.page import number
from runner import TUNING_SEED
from tasks.format import duration, plural

# Who adds seeds goes on to the next of these numbers. They are fixed before any run: a number that
# the results chose would make an interval cover less than it says.
SEEDS_OF_LOOKS = (3, 5, 8, 12, 18, 27, 40)
# An error that hardly anybody minds, where none can be compared.
SLIGHT = 0.05


@dataclass(frozen=True)
class Answer:
    """What is said, and for which cells.

    Attributes:
        sentences: the answer, a sentence or two a line.
        verdict: what the interval says of DoG.
        sides: DoG's cell or the tuned one, whichever is to be used; both if it cannot be told.
        more_seeds: how many seeds in all would tell, by what is known, of `SEEDS_OF_LOOKS`; None:
            none are needed, or no number would do.
    """

    sentences: list[str]
    verdict: Verdict
    sides: list[Cell]
    more_seeds: int | None = None


def confidence_of(look: int) -> float:
    """Return the confidence of the intervals of a look at the results, the first being 1.

    Who looks, adds seeds and looks again has several chances to be wrong. Each look spends half of
    what is left of 5 %: 97.5 %, 98.75 %, … However many there are, all are right with 95 %.

    >>> confidence_of(1), confidence_of(2)
    (0.975, 0.9875)
    """
    return 1 - 0.05 / 2**look


def next_seeds(seeds: int) -> int | None:
    """Return how many seeds the look after one at so many has; None: there is none.

    >>> next_seeds(3), next_seeds(4), next_seeds(40)
    (5, 5, None)
    """
    return next((more for more in SEEDS_OF_LOOKS if more > seeds), None)


def best_tuned(runs: pd.DataFrame) -> str | None:
    """The tuned optimizer with the best validation score on the tuning seed; None if none has one.

    `runs` are of one problem, as `choice.comparable` returns them.
    """
    tried = runs[(runs["seed"] == TUNING_SEED) & (runs["status"] != "failed")]
    tried = tried[(tried["role"] == TUNED) & is_grid_run(tried)]
    if tried.empty:
        return None
    score = gain(validation_score(tried), tried["higher_is_better"])
    ranked = tried.assign(score=score).sort_values(["score", "optimizer"], ascending=[False, True])
    return str(ranked["optimizer"].iloc[0])


def answer(
    comparison: Comparison,
    rival: str | None,
    name: str,
    look: int,
    constant: float | None,
    one_error: float,
) -> Answer:
    """Say whether DoG is as good as a tuned optimizer.

    Args:
        comparison: of the problem, with `choice.INSTANCE_TUNED` cells.
        rival: the tuned optimizer, as `best_tuned` chooses it: no test score decides.
        name: of the data, for readers.
        look: how often the results have been looked at, this time included.
        constant: the test score of always predicting the same, whichever scores best; None: of
            always predicting training's most frequent class.
        one_error: how much of the test score a wrong answer takes; 0: none is right or wrong.
    """
    dog = comparison.reference
    tuned = next((cell for cell in comparison.cells if cell.key == (rival, INSTANCE_TUNED)), None)
    if dog is None or tuned is None or min(dog.seeds, tuned.seeds) < 2:
        line = "Cannot tell: fewer than 2 runs of DoG, or of a tuned optimizer, have a result."
        return Answer([line], "inconclusive", [cell for cell in (dog, tuned) if cell])
    problem = comparison.problem
    tries = comparison.break_even.get(tuned.optimizer)
    sentences = [
        f"On {name} with {problem.model} ({plural(dog.seeds, 'seed')}, {problem.steps} steps), "
        f"test {problem.metric}: DoG {_score(dog, problem)}, {tuned.label} tuned over "
        f"{plural(tuned.runs, 'rate')} {_score(tuned, problem)}."
    ]
    if tuned.edge:
        sentences.append(
            f"The best rate of {tuned.label} ({tuned.setting}) is the lowest or the highest of "
            "those tried: one beyond it may be better."
        )
    if np.isnan(tuned.red):
        sentences.append(_too_few(dog, tuned, problem))
        return Answer(sentences, "inconclusive", [dog, tuned])
    # Never so where there is no majority: nan.
    least = problem.test_majority if constant is None else constant
    scores = gain([dog.test, tuned.test, least], problem.higher_is_better)
    has_learnt = ~(scores[:2] <= scores[2])
    if not has_learnt.any():
        sentences.append(
            "Cannot tell: neither is better than always predicting the same. Give more steps "
            "(hours=), another model, or more data."
        )
        return Answer(sentences, "inconclusive", [dog, tuned])
    red = _with_rounding(red_of_means(*by_seed(dog.errors, tuned.errors)), dog, one_error)
    low, high = red.interval(confidence_of(look))
    found = verdict(low, high)
    sure = f"{100 * confidence_of(look):g} % interval"
    words = dog.label, f"tuned {tuned.label}", error_name(problem)
    sentences.append(verdict_in_words(found, *words, low, high, sure))
    more = None
    cost = f"Tuning {tuned.label} costs {plural(tuned.runs, 'run')}, {duration(3600 * tuned.hours)}"
    if found == "inconclusive":
        if is_in_percent(problem):
            points = 100 * high * dog.error
            sentences.append(
                f"If {points:.1f} points of {problem.metric} do not matter to you, use DoG, and "
                f"tune nothing: it gives up no more ({sure}). {cost}."
            )
        more = seeds_needed(red, dog.seeds, look)
        if more is None:
            sentences.append(
                f"Not even {SEEDS_OF_LOOKS[-1]} seeds would tell, if they are like these: the "
                "difference is small for the spread over seeds."
            )
        else:
            sentences.append(f"About {plural(more, 'seed')} in all would tell.")
        return Answer(sentences, found, [dog, tuned], more)
    if tries is None:
        sentences.append(f"{cost}; DoG costs {plural(dog.runs, 'run')}.")
    elif tries.runs is None:
        sentences.append(f"{cost}, and does not catch up with DoG.")
    else:
        sentences.append(f"{cost}, and catches up with DoG after {plural(tries.runs, 'run')}.")
    if found == "worse":
        if not has_learnt[0]:
            sentences.append(
                f"In {problem.steps} steps DoG has become no better than always predicting the "
                "same: it may take more steps (hours=)."
            )
        sentences.append(f"Do not use DoG here: use {tuned.label}, {tuned.setting}.")
        return Answer(sentences, found, [tuned])
    sentences.append("Use DoG, and tune no learning rate.")
    return Answer(sentences, found, [dog])


def seeds_needed(red: RedOfMeans, seeds: int, look: int) -> int | None:
    """How many seeds in all would give a verdict if they are like those so far; None: no number."""
    later = [more for more in SEEDS_OF_LOOKS if more > seeds]
    for further, more in enumerate(later, start=1):
        expected = red.with_seeds(more / seeds, (more - 1) / (seeds - 1))
        if verdict(*expected.interval(confidence_of(look + further))) != "inconclusive":
            return more
    return None


def _with_rounding(red: RedOfMeans, dog: Cell, one_error: float) -> RedOfMeans:
    """RED as sure as numbers of errors allow, which are whole: equal ones by seed prove little.

    That rounding has the variance of one twelfth of an error, on each side and seed.
    """
    rounding = np.sqrt((1 + (1 - red.estimate) ** 2) / 12 / dog.seeds) * one_error / dog.error
    return red._replace(standard_error=max(red.standard_error, float(rounding)))


def _too_few(dog: Cell, tuned: Cell, problem: pd.Series) -> str:
    """What to say where DoG makes too few errors: on a small test part they may be a large part."""
    what = "no errors"
    if problem.metric in RATES:
        what = (
            f"fewer than {LEAST_ERRORS} errors on {problem.test_examples} test examples, too few "
            "to compare"
        )
    either = " Either will do." if max(dog.error, tuned.error) <= SLIGHT else ""
    takes = "A harder test part would tell."
    if dog.error:
        needed = int(np.ceil(LEAST_ERRORS / dog.error))
        takes = f"To tell takes {needed} test examples or more."
    return f"Cannot tell: DoG makes {what}.{either} {takes}"


def verdict_in_words(
    found: Verdict, subject: str, rival: str, what: str, low: float, high: float, sure: str
) -> str:
    """What the interval of the rival's RED against the subject says.

    `what` is what errors are called, `sure` the interval's confidence.
    """
    margin = f"(margin {100 * MARGIN:g} %, {sure})"
    error, than = f"the {what} of {rival} is", f"than {subject}'s"
    if found == "better":  # the margin does not matter
        return f"{subject} is better: {error} at least {_percent(-high)} larger {than} ({sure})."
    if found == "non-inferior":
        smaller = "not smaller" if high <= 0 else f"at most {_percent(high)} smaller"
        return f"{subject} is non-inferior: {error} {smaller} {than} {margin}."
    if found == "worse":
        between = f"{_percent(low)} to {_percent(high)} smaller"
        return f"{subject} is worse: {error} {between} {than} {margin}."
    other = f"{_percent(-low)} larger" if low < 0 else f"{_percent(low)} smaller"
    between = f"between {other} and {_percent(high)} smaller"
    if np.isinf(low):
        between = f"at most {_percent(high)} smaller, or larger by any amount,"
    return f"Cannot tell: {error} {between} {than} {margin}."


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _score(cell: Cell, problem: pd.Series) -> str:
    if is_in_percent(problem):
        return f"{number(100 * cell.test, '.1f')} ± {100 * cell.test_half_width:.1f} %"
    if problem.higher_is_better:
        return f"{number(cell.test, '.3f')} ± {cell.test_half_width:.3f}"
    return f"{number(cell.test, '.4g')} ± {cell.test_half_width:.2g}"
