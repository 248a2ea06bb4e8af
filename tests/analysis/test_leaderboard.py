"""A leaderboard ranks over the problems that all its lines have, and names what is missing."""

import made_up_records as made_up
import numpy as np
import pytest

from analysis import curves, records, roles
from analysis.aggregates import interquartile_mean_of_red
from analysis.comparison import compare_problems
from analysis.figures.data import FigureData
from analysis.figures.leaderboard import leaderboard_figures
from analysis.figures.style import curve_looks, tuning_free_looks
from analysis.tables import leaderboard
from analysis.tables.leaderboard import StepCost, common, step_costs
from analysis.tables.page import files_of
from tasks.errors import UserError


@pytest.fixture
def build(tmp_path):
    return lambda *made: compare_problems(made_up.collected(tmp_path, *made))


# Errors on seeds 0 and 1 of each task.
ERRORS = {
    "a": {"dog": (0.2, 0.2), "ldog": (0.1, 0.1), "sgd": (0.1, 0.2)},
    "b": {"dog": (0.4, 0.4), "ldog": (0.41, 0.41), "sgd": (0.3, 0.3)},
}


def example(tasks=ERRORS, **where):
    """DoG, L-DoG, and SGD at its default and at 0.1, which validation chooses of two."""
    for task, errors in tasks.items():
        for opt, of_seeds in errors.items():
            for seed, error in enumerate(of_seeds):
                choices = {"task": task, "seed": seed, "seconds": 3600, **where}
                if opt == "sgd":
                    changed = {"lr": 0.1}
                    yield made_up.record(0.5, opt=opt, **choices)
                    yield made_up.record(1 - error, changed=changed, **choices)
                else:
                    yield made_up.record(1 - error, opt=opt, **choices)
        yield made_up.record(0.5, seed=100, task=task, seconds=1800, **where)
        yield made_up.record(0.6, seed=100, task=task, seconds=1800, changed={"lr": 0.1}, **where)


def only_board(comparisons, costs=None):
    (board,) = leaderboard.leaderboards(comparisons, costs)
    return board


def lines(comparisons):
    return only_board(comparisons).frame.set_index(["optimizer", "row"])


def notes(comparisons):
    (page,) = leaderboard.pages_of_leaderboards(comparisons, {})
    return "\n".join(page.notes)


def test_a_leaderboard_by_hand(build):
    found = lines(build(*example()))
    # REDs of SGD: on a 0.5 and 0 by seed, mean 0.25, on b 0.25 twice. Its interquartile mean is
    # that of 0, 0.25, 0.25, 0.5. L-DoG: 0.5 and −0.025.
    sgd, ldog = found.loc[("sgd", "instance-tuned")], found.loc[("ldog", "default")]
    assert (sgd.red_iqm, sgd.red_median, sgd.red_mean) == pytest.approx((0.25, 0.25, 0.25))
    assert (ldog.red_iqm, ldog.red_mean) == pytest.approx((0.2375, 0.2375))
    assert sgd.red_iqm_low < 0.2 and sgd.red_iqm_high > 0.3
    assert (ldog.red_iqm_low, ldog.red_iqm_high) == pytest.approx((0.2375, 0.2375))
    assert [*found.index] == [
        ("sgd", "instance-tuned"), ("ldog", "default"), ("dog", "default"), ("sgd", "default"),
    ]  # fmt: skip
    # L-DoG against tuned SGD: on a it ties with one seed and is better than the other, on b never.
    assert ldog.over_sgd == pytest.approx(0.75 / 2)
    assert np.isnan([sgd.over_sgd, ldog.over_adamw]).all()
    # Mean errors: on a 0.2, 0.1, 0.15, 0.5, on b 0.4, 0.41, 0.3, 0.5.
    assert found["near_best"].tolist() == [0.5, 0.5, 0, 0]
    assert (sgd.runs, sgd.hours, ldog.runs, ldog.hours) == (4, 2, 2, 2)
    # DoG and the default cost no less than L-DoG and are worse.
    assert found["pareto"].tolist() == [True, True, False, False]


def test_a_missing_cell_is_named_and_does_not_shift_the_other_lines(build):
    whole = lines(build(*example()))
    adam = [made_up.record(0.99, opt="adam", task="a", seed=seed) for seed in (0, 1)]
    built = build(*adam)
    assert ("adam", "default") not in lines(built).index
    assert lines(built).equals(whole)
    assert "Not listed, without a result on b-efficientnet_lite0-lite: Adam (default)." in notes(
        built
    )


def test_a_problem_that_few_have_is_left_out_and_named(build):
    whole = lines(build(*example()))
    alone = [made_up.record(0.5, opt="dog", task="c", seed=seed) for seed in (0, 1)]
    built = build(*alone)
    assert lines(built).equals(whole)
    assert "Left out: c-efficientnet_lite0-lite, which has results of DoG alone." in notes(built)


def test_the_problems_are_those_with_the_most_cells_that_all_of_the_optimizers_have():
    # x and y: 3 optimizers, 6 cells; with z, which one has, 3.
    assert common({"a": "xyz", "b": "xy", "c": "xy"}) == (["x", "y"], ["a", "b", "c"])
    # The first, which two have, and then those that one of these two has, not that of another.
    assert common({"a": ["b", "y", "z"], "b": ["b"], "c": ["c"]}) == (["b", "y", "z"], ["a"])
    # One problem of two, or two of one: two problems.
    assert common({"a": "xy", "b": "x"}) == (["x", "y"], ["a"])
    assert common({"a": "x", "b": "y"}) == (["x"], ["a"])
    assert common({}) == ([], [])


def test_problems_that_dog_alone_has_do_not_outweigh_a_comparison(build):
    whole = lines(build(*example()))
    more = [made_up.record(0.5, opt="dog", task=task) for task in "cdefgh"]
    assert lines(build(*more)).equals(whole)


def test_a_tuned_optimizer_counts_where_its_tuned_row_has_a_result(build):
    # Adam's default ran on both, its tuned setting on neither: it does not decide on the problems.
    adam = [made_up.record(0.7, opt="adam", task=task, seed=seed)
            for task in "abc" for seed in (0, 1)]  # fmt: skip
    dog = [made_up.record(0.5, opt="dog", task="c", seed=seed) for seed in (0, 1)]
    board = only_board(build(*example(), *adam, *dog))
    assert [each.problem.task for each in board.problems] == ["a", "b"]
    assert ("adam", "default") in board.errors.index


def test_a_diverged_run_counts_as_it_was_scored_and_a_crashed_one_is_counted(build):
    diverged = [made_up.record(0.1, opt="adam", task="a", seed=0, status="diverged"),
                made_up.record(0.8, opt="adam", task="a", seed=1),
                made_up.record(0.6, opt="adam", task="b", seed=0),
                made_up.failure(opt="adam", task="b", seed=1)]  # fmt: skip
    adam = lines(build(*example(), *diverged)).loc[("adam", "default")]
    # Errors 0.9 and 0.2 of a, 0.4 of b: REDs −3.5 and 0, and 0, which weighs as two.
    assert adam.red_iqm == pytest.approx(0)
    assert adam.red_mean == pytest.approx(-1.75 / 2)
    assert (adam.diverged, adam.crashed) == (1, 1)
    assert np.isnan(adam.red_iqm_low)


def test_a_single_problem_with_a_single_seed_has_no_interval_and_says_so(build):
    one = {"a": {opt: errors[:1] for opt, errors in ERRORS["a"].items()}}
    built = build(*example(one))
    found = lines(built).drop(index=[("dog", "default")])
    ends = [name for name in found if name.endswith(("_low", "_high"))]
    assert len(ends) == 6 and found[ends].isna().all(axis=None)
    assert found["over_sgd"].drop(index=[("sgd", "instance-tuned")]).tolist() == [0.5, 0.0]
    assert "No interval where a problem has one seed." in notes(built)
    (page,) = leaderboard.pages_of_leaderboards(built, {})
    assert page.shown["95 % interval"].tolist() == ["–"] * 4


def test_an_interval_has_its_draws_in_the_order_of_the_problems_whatever_else_was_run(build):
    errors = {
        "a": {"dog": (0.2, 0.205), "ldog": (0.1, 0.11), "sgd": (0.1, 0.2)},
        "b": {"dog": (0.4, 0.41), "ldog": (0.3, 0.32), "sgd": (0.3, 0.3)},
    }
    # Adam has a result on b alone, which is taken first.
    adam = [made_up.record(0.5 + seed / 10, opt="adam", task="b", seed=seed) for seed in (100, 0)]
    board = only_board(build(*example(errors), *adam))
    assert [each.problem.task for each in board.problems] == ["a", "b"]
    ldog = board.frame.set_index("optimizer").loc["ldog"]
    dogs, ldogs = ([one[name] for one in errors.values()] for name in ("dog", "ldog"))
    by_hand = interquartile_mean_of_red(dogs, ldogs)
    assert (ldog.red_iqm_low, ldog.red_iqm_high) == pytest.approx(by_hand[1:])


def test_an_interval_without_a_lower_end_is_written_as_such_and_drawn_to_the_edge(build):
    pytest.importorskip("vl_convert", reason="the extra `report` is not installed")
    from analysis.html.board_charts import forest

    # Student's test tells no RED from that of these errors.
    errors = {"dog": (0.1, 0.3), "sgd": (0.125, 0.175)}
    built = build(*example({"a": errors, "b": errors}))
    files = files_of(leaderboard.pages_of_leaderboards(built, {}))
    table, tex, csv = (files[f"leaderboard-lite-fine_tuning.{end}"] for end in ("md", "tex", "csv"))
    assert " −∞ to +100.0 |" in table and r"& $-$$\infty$ to +100.0 &" in tex
    assert ",-inf,1.0," in csv and "∞" not in tex
    drawn = forest(only_board(built)).spec["data"]["columns"]
    ends = zip(drawn["interval"], drawn["low"], drawn["high"], strict=True)
    assert {(low, high) for text, low, high in ends if text == "−∞ to +100.0"} == {(-50, 100)}


def test_a_problem_where_dog_makes_few_errors_is_dropped_and_named(build):
    whole = lines(build(*example()))
    built = build(*example({"d": {"dog": (0.001, 0.001), "ldog": (0.1, 0.1), "sgd": (0.1, 0.1)}}))
    assert lines(built).equals(whole)
    assert "Dropped: d-efficientnet_lite0-lite, where DoG's runs make fewer than 10" in notes(built)


def test_protocols_have_their_own_and_dog_alone_has_none(build):
    smoke = {"protocol": ("smoke", 1)}
    alone = made_up.record(0.5, opt="dog", protocol=("paper", 1))
    boards = [*leaderboard.leaderboards(build(*example(), *example(**smoke), alone))]
    assert [board.stem for board in boards] == [
        "leaderboard-lite-fine_tuning",
        "leaderboard-smoke-fine_tuning",
    ]


def test_probes_and_fine_tuning_are_never_in_one_leaderboard(build):
    whole = lines(build(*example()))
    probes = {f"probe_{task}": ERRORS[task] for task in ("b", "a")}
    others = [
        *example(probes, budget="probe"),
        *example({"scratch": ERRORS["a"]}, model="lenet5"),
        *example({"convex": ERRORS["a"]}, budget="theory"),
    ]
    # A method that only probes have neither shortens the list of problems nor is named.
    adam = [made_up.record(0.9, opt="adam", task=task, seed=seed, budget="probe")
            for task in probes for seed in (0, 1)]  # fmt: skip
    fine_tuning, of_probes = leaderboard.leaderboards(build(*others, *adam))
    assert fine_tuning.stem == "leaderboard-lite-fine_tuning"
    assert fine_tuning.title == "fine-tuning, lite v1"
    assert fine_tuning.frame.set_index(["optimizer", "row"]).equals(whole)
    assert fine_tuning.left_out == {} and fine_tuning.lacking == {}
    assert of_probes.stem == "leaderboard-lite-probes"
    assert [each.problem.task for each in of_probes.problems] == ["probe_a", "probe_b"]
    assert ("adam", "default") in of_probes.errors.index


def test_portfolio_and_calibrated_are_lines_with_their_costs(build):
    tuning = [made_up.record(score, opt=opt, task=task, seed=100, seconds=60)
              for task in "ab" for opt, score in (("dog", 0.6), ("ldog", 0.7))]  # fmt: skip
    built = build(*example(), *tuning)
    found = lines(built)
    portfolio, calibrated = (
        found.loc[("best_of_defaults", "portfolio")],
        found.loc[("sgd", "calibrated")],
    )
    assert portfolio.red_iqm == found.loc[("ldog", "default")].red_iqm
    assert (portfolio.runs, portfolio.hours) == (4, pytest.approx(4 / 60))
    assert (calibrated.runs, calibrated.runs_elsewhere) == (2, 4)
    assert "L-DoG of 2 on a-efficientnet_lite0-lite" in notes(built)


def test_what_is_left_to_set_is_read_from_the_yaml_and_a_steps_cost_from_the_benchmark(
    build, tmp_path, monkeypatch
):
    monkeypatch.setattr(roles, "_YAMLS", tmp_path)
    roles.in_yaml.cache_clear()
    for name, left in (("dog", "[]"), ("ldog", "[reps_rel, weight_decay]")):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nleft_to_set: {left}\n")
    tuned = [record | {"opt_role": "tuned"} if record["settings"]["opt"]["name"] == "sgd" else
             record | {"opt_role": {"dog": "reference"}.get(record["settings"]["opt"]["name"],
                                                            "tuning_free")}
             for record in example()]  # fmt: skip
    built = build(*tuned)
    (page,) = leaderboard.pages_of_leaderboards(built, {"ldog": StepCost(8.0, 1.5)})
    roles.in_yaml.cache_clear()
    shown = page.shown.set_index(["optimizer", "row"])[["left to set", "memory", "step"]]
    assert shown.loc[("DoG", "default")].tolist() == ["nothing", "–", "–"]
    assert shown.loc[("L-DoG", "default")].tolist() == ["reps_rel, weight_decay", "8", "1.50"]
    assert shown.loc[("SGD", "default")].tolist() == ["–"] * 3


def test_a_steps_cost_is_the_median_over_networks_of_the_lines_that_name_a_yaml(tmp_path):
    path = tmp_path / "optimizer_step.csv"
    assert step_costs(path) == {}
    head = "model,status,ratio,memory_per_parameter"
    path.write_text(f"{head}\nvit,measured,1.5,4.0\n")
    assert step_costs(path) == {}  # of before lines named a yaml
    path.write_text(
        f"opt,{head}\n"
        "dog,vit,measured,1.5,4.0\n"
        "dog,minilm,measured,1.7,4.0\n"
        "dog,tinyllama,measured,1.1,8.0\n"
        "dog,tinyllama,measured,9.9,9.0\n"
        "dowg,vit,not measured,not measured,not measured\n"
        ",vit,measured,7.7,7.0\n"
    )
    assert step_costs(path) == {"dog": StepCost(4.0, 1.5)}
    path.write_text("opt,model\ndog,vit\n")
    with pytest.raises(UserError, match="make bench"):
        step_costs(path)


def figures(comparisons, tmp_path):
    frame = records.collect(tmp_path / "runs", tmp_path / "records.csv")
    data = FigureData.from_records(comparisons, frame, curves.of_records([]))
    return dict(leaderboard_figures(data))


def test_the_figure_has_a_point_and_a_name_for_each_line_and_joins_the_front(build, tmp_path):
    drawn = figures(build(*example()), tmp_path)
    assert sorted(drawn) == ["leaderboard-lite-fine_tuning", "profile-lite-fine_tuning"]
    (axes,) = drawn["leaderboard-lite-fine_tuning"].axes
    points = np.concatenate([each.get_offsets() for each in axes.collections])
    found = np.array(sorted(points[~np.isnan(points).any(axis=1)].tolist()))
    # SGD's default: REDs −1.5 and −0.25, each of two runs.
    np.testing.assert_allclose(found, [[1, -87.5], [1, 0], [1, 23.75], [2, 25]], atol=1e-9)
    names = [text.get_text() for text in axes.texts]
    assert {"DoG", "L-DoG", "SGD"} <= set(names) and names.count("SGD") == 2
    (front,) = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) == 2
                and line.get_drawstyle() == "steps-post"]  # fmt: skip
    np.testing.assert_allclose(front, [[1, 23.75], [2, 25]])


def test_the_profile_has_a_bar_for_each_optimizer_in_the_order_of_the_leaderboard(build, tmp_path):
    (axes,) = figures(build(*example()), tmp_path)["profile-lite-fine_tuning"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["SGD", "L-DoG", "DoG"]
    # Of tuned SGD: on b the best, on a at 1.5 times the best.
    bars = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_facecolor()[0])
            for bar in axes.patches if abs(bar.get_y() + 0.4) < 0.1]  # fmt: skip
    assert [(left, right) for left, right, _ in bars] == [pytest.approx((1, 1.5)),
                                                          pytest.approx((1.5, 3))]  # fmt: skip
    assert bars[0][2] > bars[1][2]  # darker where it is so near on both


def test_thirty_optimizers_have_looks_of_their_own():
    free = tuning_free_looks(f"method {number}" for number in range(30))
    assert len({str(look) for look in free.values()}) == 30
    assert len({str(look) for look in curve_looks(30)}) == 30
