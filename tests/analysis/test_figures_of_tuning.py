"""The figures of what tuning gives and costs show the records' numbers."""

import made_up_records as made_up
import numpy as np
import pytest

from analysis import curves, statistics
from analysis.comparison import compare_problems
from analysis.figures.break_even import break_even_figures
from analysis.figures.budget import budget_figures
from analysis.figures.data import FigureData
from analysis.figures.red import red_figures, tuned_cells

# By rate: validation and test accuracy of SGD.
RATES = {0.01: (0.60, 0.58), 0.1: (0.85, 0.84), 1.0: (0.50, 0.52)}


@pytest.fixture
def gather(tmp_path):
    """Writes records and returns what figures take."""

    def data(*made):
        frame = made_up.collected(tmp_path, *made)
        return FigureData.from_records(compare_problems(frame), frame, curves.of_records([]))

    return data


def problem(dog=0.8, shift=0.0, reported_dog=None, **where):
    """DoG on the tuning seed and a reported one, SGD's grid, and its best rate reported."""
    for seed, score in ((100, dog), (0, reported_dog or dog)):
        yield made_up.record(0.8, score, opt="dog", seed=seed, **where)
    for rate, (validation, test) in RATES.items():
        settings = {} if rate == 0.01 else {"lr": rate}
        yield made_up.record(validation, test + shift, seed=100, changed=settings, **where)
    yield made_up.record(0.85, 0.83 + shift, seed=0, changed={"lr": 0.1}, **where)


def lines(axes):
    drawn = [line.get_xydata() for line in axes.lines if line.get_transform() == axes.transData]
    return [points for points in drawn if len(points) > 1]


def test_red_by_rate_is_the_median_over_tasks_against_dog_at_the_tuning_seed(gather):
    tasks = {"a": 0.0, "b": 0.02, "c": 0.06}
    data = gather(
        *(run for task, shift in tasks.items() for run in problem(shift=shift, task=task))
    )
    figure = dict(red_figures(data))["red_by_rate-lite"]
    (axes,) = [axes for axes in figure.axes if axes.get_visible()]
    assert axes.get_title() == "efficientnet_lite0, 3 tasks, 468 steps"
    (sgd,) = lines(axes)
    # Of task b, the middle one: DoG errs 0.2, SGD 0.4, 0.14 and 0.46.
    np.testing.assert_allclose(sgd, [[0.01, -100], [0.1, 30], [1.0, -130]])
    (shade,) = axes.collections
    at_best = [y for x, y in shade.get_paths()[0].vertices if x == pytest.approx(0.1)]
    # REDs 20, 30 and 50: quartiles 25 and 40.
    assert (min(at_best), max(at_best)) == pytest.approx((25, 40))


def test_bars_of_fine_tuning_and_of_probes_are_figures_of_their_own(gather):
    probes = {"task": "probe_cifar", "budget": "probe"}
    ldog = made_up.record(0.8, 0.86, opt="ldog", seed=0)
    # Of neither: what is trained from random weights, and theory.
    others = [*problem(model="lenet5"), *problem(task="convex", model="own", budget="theory")]
    data = gather(*problem(), ldog, *problem(dog=0.9, **probes), *others)
    made = dict(red_figures(data))
    for name, heights in (("fine_tuning", [15, 15, 30]), ("probes", [-70, -70])):
        axes = made[f"red-lite-{name}"].axes[0]
        drawn = {
            str(bars.get_label()): bars.patches[0].get_height() for bars in axes.containers[1::2]
        }
        assert list(drawn.values()) == pytest.approx(heights)
        assert list(drawn)[:2] == ["SGD model-tuned", "SGD instance-tuned"]
        assert [tick.get_text() for tick in axes.get_xticklabels()] == [
            "efficientnet_lite0\n1 task, 468 steps"
        ]


def test_a_rate_that_was_not_tried_on_all_tasks_has_no_red(gather):
    alone = made_up.record(0.9, 0.9, seed=100, changed={"lr": 10.0}, task="a")
    crashed = made_up.failure(seed=100, changed={"lr": 1.0}, task="b")
    kept = [run for run in problem(task="b") if run["run_id"] != crashed["run_id"]]
    ldog = made_up.record(0.8, 0.86, opt="ldog", seed=100, task="a")
    figure = dict(red_figures(gather(*problem(task="a"), alone, *kept, crashed, ldog)))
    (axes,) = [one for one in figure["red_by_rate-lite"].axes if one.get_visible()]
    assert axes.get_title() == "efficientnet_lite0, 2 tasks, 468 steps"
    (sgd,) = lines(axes)
    assert sgd[:, 0].tolist() == [0.01, 0.1]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["SGD"]


def test_a_bar_is_over_all_of_a_models_tasks_or_not_drawn(gather):
    ldog = [made_up.record(0.8, 0.86, opt="ldog", seed=seed, task="a") for seed in (100, 0)]
    data = gather(*problem(task="a"), *problem(task="b"), *ldog)
    assert set(tuned_cells(data.comparisons)["optimizer"]) == {"SGD"}
    assert set(tuned_cells(data.comparisons[:1])["optimizer"]) == {"SGD", "L-DoG"}


def test_an_added_optimizer_and_a_renamed_ldog_are_drawn(gather):
    added = [run for run in problem() if run["settings"]["opt"]["name"] == "sgd"]
    for run in added:
        run["settings"]["opt"]["name"], run["opt_label"] = "lion", "Lion"
        run["run_id"] += "-lion"
    ldog = [made_up.record(0.8, 0.86, opt="ldog", seed=seed) for seed in (100, 0)]
    ldog = [run | {"opt_label": "Layer-wise DoG"} for run in ldog]
    # The first panel lacks both.
    made = dict(red_figures(gather(*problem(model="a"), *problem(), *added, *ldog)))
    first, axes = (one for one in made["red_by_rate-lite"].axes if one.get_visible())
    sgd, lion = (line for line in axes.lines if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(lion.get_xydata(), sgd.get_xydata())
    assert lion.get_color() != sgd.get_color()
    legend = [text.get_text() for text in first.get_legend().get_texts()]
    assert legend == ["SGD", "Lion", "Layer-wise DoG"]
    bars = made["red-lite-fine_tuning"].axes[0].containers[1::2]
    assert [str(bar.get_label()) for bar in bars] == [
        "SGD model-tuned", "Lion model-tuned", "SGD instance-tuned", "Lion instance-tuned",
        "Layer-wise DoG",
    ]  # fmt: skip
    assert len({(bar[0].get_facecolor(), bar[0].get_hatch()) for bar in bars}) == 5


def test_break_even_is_the_expected_error_by_runs_and_dog_across(gather):
    data = gather(*problem(reported_dog=0.9))
    ((stem, figure),) = break_even_figures(data)
    assert stem == "break_even-cifar-efficientnet_lite0-lite"
    (axes,) = figure.axes
    validation, test = np.array(list(RATES.values())).T
    expected = statistics.break_even(validation, 1 - test, [60] * 3, 0.2)
    (sgd,) = lines(axes)
    np.testing.assert_allclose(sgd, [[k + 1, 100 * expected.errors[k]] for k in range(3)])
    assert sgd[2, 1] == pytest.approx(16)
    across = [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert across == pytest.approx([20, 10])  # on the trials' seed, and the reported seeds' mean
    texts = {text.get_text() for text in axes.texts}
    assert {"DoG, seed 100: 1 run, 60 s", "DoG, mean of 1 seed"} <= texts
    assert {"SGD: 3 runs, 3.0 min", "3 runs, 3.0 min"} <= texts


def test_error_by_budget_is_that_of_problems_that_differ_in_steps_alone(gather):
    data = gather(
        *problem(dog=0.7, steps=100), *problem(dog=0.8, steps=200, eval_every=50),
        *problem(dog=0.9, steps=400, protocol=("smoke", 1)),
        *problem(dog=0.9, steps=400, augment="flip"),
    )  # fmt: skip
    ((stem, figure),) = budget_figures(data)
    assert stem == "budget-cifar-efficientnet_lite0-lite"
    dog, sgd = (bars.lines[0].get_xydata() for bars in figure.axes[0].containers)
    np.testing.assert_allclose(dog, [[100, 30], [200, 20]])
    np.testing.assert_allclose(sgd, [[100, 17], [200, 17]])


def test_a_budget_figure_needs_a_line_with_two_points(gather):
    other = [made_up.record(0.8, opt="adam", seed=0, steps=steps) for steps in (100, 200)]
    assert list(budget_figures(gather(*other))) == []
    assert list(budget_figures(gather(*problem(steps=100)))) == []
    dog = made_up.record(0.8, opt="dog", seed=0, steps=200)
    ((_, figure),) = budget_figures(gather(dog))
    assert {text.get_text() for text in figure.axes[0].texts} >= {"DoG, default"}


def test_a_line_with_few_of_the_budgets_is_left_out(gather):
    more = [made_up.record(0.8, opt="dog", seed=0, steps=steps) for steps in (200, 210, 400)]
    ((_, figure),) = budget_figures(gather(*problem(steps=100), *more))
    (dog,) = (bars.lines[0].get_xydata() for bars in figure.axes[0].containers)
    assert list(dog[:, 0]) == [100, 200, 210, 400]
    assert list(figure.axes[0].get_xticks()) == [100, 200, 400]  # 210 would be written over 200


def test_how_often_is_evaluated_tells_budgets_apart_only_where_the_best_checkpoint_counts(gather):
    for checkpoint, figures in (("last", 1), ("best", 0)):
        chosen = {"task": checkpoint, "checkpoint": checkpoint}
        data = gather(
            *problem(steps=100, eval_every=50, **chosen),
            *problem(steps=200, eval_every=10, **chosen),
        )
        assert sum(checkpoint in stem for stem, _ in budget_figures(data)) == figures


def test_without_tuning_or_without_dog_nothing_is_drawn(gather):
    (dog, *_), (_, _, *sgd) = problem(), problem(task="movies")
    data = gather(dog, *sgd)
    for kind in (red_figures, break_even_figures, budget_figures):
        assert list(kind(data)) == []


def test_of_many_optimizers_each_has_a_row_and_the_best_is_first(gather):
    (free,) = [made_up.record(0.7, opt="ldog", seed=0)]
    many = []
    for number in range(15):
        new = made_up.record(0.60 + 0.01 * number, opt="ldog", seed=0)
        new["settings"]["opt"]["name"] = f"free{number}"
        many.append(new | {"opt_label": f"Free {number}", "opt_role": "tuning_free",
                           "run_id": f"{new['run_id']}{number}"})  # fmt: skip
    figure = dict(red_figures(gather(*problem(), free, *many)))["red-lite-fine_tuning"]
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    # DoG errs 0.2: SGD's 0.83 is RED 0.15, L-DoG's 0.7 −0.5, as that of the eleventh.
    assert sorted(names[:2]) == ["SGD instance-tuned", "SGD model-tuned"]
    assert names[2:6] == ["Free 14", "Free 13", "Free 12", "Free 11"]
    assert names[-1] == "Free 0" and len(names) == 18
    widths = [bar.get_width() for bar in axes.patches]
    np.testing.assert_allclose(widths[:3] + widths[-1:], [15, 15, -30, -100])
