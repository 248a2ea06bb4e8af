"""How the start is judged: regret, worked out by hand; the growth that a cosine predicts."""

import made_up_records as made_up
import numpy as np
import pytest
import torch

from analysis import curves, records
from analysis.comparison import compare_problems
from analysis.figures.data import FigureData
from analysis.figures.growth import growth_figures, predicted
from analysis.figures.starts import starts_figures
from analysis.tables.starts import pages_of_tried, regrets_of, tried_starts
from dog import DoG

# Test accuracy on seeds 0 and 1 by the fixed start: on average 1e-2 is best, with 0.80.
FIXED = {1e-6: (0.60, 0.62), 1e-4: (0.75, 0.77), 1e-2: (0.79, 0.81)}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    for name in ("dog_auto", "dog_start"):
        monkeypatch.setitem(made_up.DEFAULTS, name, {"lr": 1.0, "reps_rel": "auto"})
        monkeypatch.setitem(made_up.GRIDS, name, {})
        monkeypatch.setitem(made_up.LABELS, name, name)


def runs(opt, scores, **changed):
    for seed, score in enumerate(scores):
        yield made_up.record(0.5, score, opt=opt, seed=seed, changed=changed)


def fixed(scores=FIXED, opt="dog"):
    for start, of_seeds in scores.items():
        changed = {} if start == 1e-4 else {"reps_rel": start}
        yield from runs(opt, of_seeds, **changed)


def collected(tmp_path, made):
    for record in made:
        made_up.write_with_curve(tmp_path / "runs", record, {1: 1e-6, 10: 1e-5, 100: 1e-2})
    return records.collect(tmp_path / "runs", tmp_path / "records.csv")


def test_regret_is_against_the_best_fixed_start_over_the_same_seeds(tmp_path):
    frame = collected(tmp_path, [*fixed(), *runs("dog_auto", (0.78, 0.81))])
    (line,) = regrets_of(tried_starts(compare_problems(frame), frame)).to_dict("records")
    assert (line["optimizer"], line["rule"], line["seeds"]) == ("dog_auto", "", 2)
    assert line["best_start"] == 1e-2
    assert line["is_edge"]  # the largest that was tried
    assert line["regret"] == pytest.approx(0.80 - 0.795)
    assert line["over_default"] == pytest.approx(0.795 - 0.76)
    # Differences 0.01 and 0: Student's t of two values has 12.706 standard errors of 0.005.
    assert line["half_width"] == pytest.approx(12.706 * 0.005, rel=1e-4)


def test_seeds_that_only_one_side_has_are_left_out(tmp_path):
    frame = collected(tmp_path, [*fixed(), *runs("dog_auto", (0.78,))])
    (line,) = regrets_of(tried_starts(compare_problems(frame), frame)).to_dict("records")
    assert line["seeds"] == 1
    assert line["regret"] == pytest.approx(0.79 - 0.78)


def test_a_rule_without_a_seed_of_the_fixed_starts_has_no_line(tmp_path):
    alone = made_up.record(0.5, 0.8, opt="dog_auto", seed=7, changed={})
    frame = collected(tmp_path, [*fixed(), alone])
    assert regrets_of(tried_starts(compare_problems(frame), frame)).empty


def test_a_problem_with_too_few_fixed_starts_has_no_line(tmp_path):
    few = {start: FIXED[start] for start in (1e-6, 1e-4)}
    frame = collected(tmp_path, [*fixed(few), *runs("dog_auto", (0.78, 0.81))])
    assert regrets_of(tried_starts(compare_problems(frame), frame)).empty


def test_tables_show_the_own_start_and_the_rules_apart(tmp_path):
    made = [*fixed(), *runs("dog_auto", (0.78, 0.81)), *runs("dog_start", (0.70, 0.70))]
    made += runs("dog_start", (0.79, 0.79), rule="race")
    frame = collected(tmp_path, made)
    own, rules = pages_of_tried(tried_starts(compare_problems(frame), frame))
    assert list(own.shown["optimizer"]) == ["dog_auto"]
    assert list(own.shown["regret"]) == ["+0.50 ± 6.35"]
    assert list(own.shown["best fixed start"]) == ["1e-2†"]
    assert list(rules.shown["rule"]) == ["dog_auto", "race", "dog_start"]  # by the worst regret
    assert list(rules.shown["worst"]) == ["0.50", "1.00", "10.00"]


def test_a_problem_that_lacks_a_rule_is_not_in_the_table_of_rules_and_all_rules_are(tmp_path):
    made = []
    for steps, rules in ((468, ("race", "switch")), (125, ("race",))):
        where = {"steps": steps, "seed": 0}
        for start, (score, _) in FIXED.items():
            changed = {} if start == 1e-4 else {"reps_rel": start}
            made.append(made_up.record(score, opt="dog", changed=changed, **where))
        made.append(made_up.record(0.78, opt="dog_auto", **where))
        for rule in rules:
            made.append(made_up.record(0.70, opt="dog_start", changed={"rule": rule}, **where))
    frame = collected(tmp_path, made)
    *_, page = pages_of_tried(tried_starts(compare_problems(frame), frame))
    assert sorted(page.shown["rule"]) == ["dog_auto", "race", "switch"]
    assert [name for name in page.shown if "cifar" in name] == [
        "cifar · efficientnet_lite0, steps=468"
    ]


def test_rules_are_compared_on_the_seeds_that_all_have_with_one_best_start(tmp_path):
    made = [*fixed({1e-6: (0.60, 0.90), 1e-4: (0.70, 0.70), 1e-2: (0.75, 0.50)})]
    made += [*runs("dog_auto", (0.74, 0.80)), *runs("dog_start", (0.74,), rule="race")]
    frame = collected(tmp_path, made)
    own, rules = pages_of_tried(tried_starts(compare_problems(frame), frame))
    assert list(own.exact["seeds"]) == [2]
    assert list(rules.exact["best_start"]) == [1e-2, 1e-2]
    assert list(rules.shown["worst"]) == ["1.00", "1.00"]


def test_the_figure_of_starts_has_a_line_for_each_method_and_a_level_for_each_rule(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("analysis.figures.starts.LEAST_STARTS", 3)
    monkeypatch.setattr("analysis.figures.starts.LEAST_METHODS", 2)
    made = [*fixed(), *fixed(opt="ldog"), *runs("dog_auto", (0.78, 0.81))]
    frame = collected(tmp_path, made)
    data = FigureData.from_records(compare_problems(frame), frame, curves.of_records([]))
    ((stem, figure),) = starts_figures(data)
    assert stem == "starts-lite"
    (axes,) = figure.axes
    drawn = [line.get_xydata() for line in axes.lines]
    points = [[1e-6, 61], [1e-4, 76], [1e-2, 80]]
    assert sum(len(line) == 3 and np.allclose(line, points) for line in drawn) == 2
    level = [line for line in drawn if list(line[:, 0]) == [0, 1] and line[0, 1] == line[1, 1]]
    assert any(np.allclose(line[:, 1], 79.5) for line in level)


@pytest.mark.parametrize("cosine", [0.0, 1.0])
def test_predicted_growth_is_that_of_dog(cosine):
    steps, start = 40, 1e-7
    x = torch.nn.Parameter(torch.zeros(steps, dtype=torch.float64))
    optimizer = DoG([x], reps_rel=start, eps=1e-30)
    for step in range(steps):
        x.grad = torch.zeros_like(x)
        x.grad[0 if cosine else step] = 3.0  # any two gradients have this cosine
        optimizer.step()
    grown = optimizer.telemetry()[0]["rbar"] / start
    assert grown == pytest.approx(predicted(cosine, steps)[-1], rel=1e-9)


def test_growth_is_drawn_from_the_smallest_start_and_the_most_steps(tmp_path):
    shorter = made_up.record(0.5, opt="dog", changed={"reps_rel": 1e-8}, steps=100)
    frame = collected(tmp_path, [*fixed(), shorter])
    known = curves.collect(tmp_path / "runs", tmp_path / "curves.csv", frame)
    data = FigureData.from_records(compare_problems(frame), frame, known)
    ((stem, figure),) = growth_figures(data)
    assert stem == "growth-lite"
    (axes,) = figure.axes
    drawn = [line.get_xydata() for line in axes.lines]
    grown = [[1, 1], [10, 10], [100, 1e4]]
    assert sum(len(line) == 3 and np.allclose(line, grown) for line in drawn) == 1
