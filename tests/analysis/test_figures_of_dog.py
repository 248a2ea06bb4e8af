"""The figures of DoG's own settings show the records' numbers, and never two protocols' in one."""

from pathlib import Path

import made_up_records as made_up
import numpy as np
import pytest

from analysis import curves, records
from analysis.comparison import compare_problems
from analysis.figures import all_figures, write_figures
from analysis.figures.batch_norm import batch_norm_figures, batch_norm_lines
from analysis.figures.data import FigureData, steps_of
from analysis.figures.distance import distance_figures
from analysis.figures.sensitivity import sensitivity_figures
from analysis.figures.step_size import step_size_figures
from runner.identity import problem_id, run_id
from sweeps.packing import pack

STARTS = [1e-6, 1e-4, 1e-2]
# Test accuracy by reps_rel, and by c.
BY_START = {1e-6: 0.6, 1e-4: 0.8, 1e-2: 0.7}
BY_FACTOR = {0.5: 0.5, 1.0: 0.8, 2.0: 0.75}


@pytest.fixture
def gather(tmp_path):
    """Writes records (with curves where points are given) and returns what figures take."""

    def data(*made):
        for record, points in made:
            if points:
                made_up.write_with_curve(tmp_path / "runs", record, points)
            else:
                made_up.write(tmp_path / "runs", record)
        frame = records.collect(tmp_path / "runs", tmp_path / "records.csv")
        known = curves.collect(tmp_path / "runs", tmp_path / "curves.csv", frame)
        return FigureData.from_records(compare_problems(frame), frame, known)

    return data


def changed(**settings):
    default = {"lr": 1.0, "reps_rel": 1e-4}
    return {key: value for key, value in settings.items() if value != default[key]}


def by_start(opt="dog", shift=0.0, **where):
    """A run for each reps_rel, its η from reps_rel at step 1 to about 0.1 at step 100."""
    for start, score in BY_START.items():
        points = {1: start, 10: 10 * start, 100: 0.1 + start}
        settings = changed(reps_rel=start)
        record = made_up.record(0.5, score + shift, opt=opt, changed=settings, seed=0, **where)
        yield record, points


def by_factor(opt="dog", **where):
    for factor, score in BY_FACTOR.items():
        yield made_up.record(0.5, score, opt=opt, changed=changed(lr=factor), seed=0, **where), None


def rates(**where):
    for rate, validation, test in ((0.01, 0.5, 0.55), (0.1, 0.7, 0.65), (1.0, 0.6, 0.66)):
        settings = {"lr": rate} if rate != 0.01 else {}
        yield made_up.record(validation, test, seed=100, changed=settings, **where), None


def lines(axes):
    """The points of each line in the axes' own units that has more than one of them."""
    drawn = [line.get_xydata() for line in axes.lines if line.get_transform() == axes.transData]
    return [points for points in drawn if len(points) > 1]


def test_step_sizes_of_each_start_and_what_they_come_to(gather):
    data = gather(*by_start(), *rates())
    made = dict(step_size_figures(data))
    left, starts, sgd = made["step_size-cifar-efficientnet_lite0-lite"].axes
    drawn = lines(left)
    for start, points in zip(STARTS, drawn, strict=True):
        np.testing.assert_allclose(points, [[1, start], [10, 10 * start], [100, 0.1 + start]])
    across = [line.get_ydata()[0] for line in left.lines if list(line.get_xdata()) == [0, 1]]
    assert across == [0.1]  # chosen by validation; by test it would be 1
    np.testing.assert_allclose(lines(starts)[0], [[s, 100 * BY_START[s]] for s in STARTS])
    np.testing.assert_allclose(lines(sgd)[0], [[0.01, 55], [0.1, 65], [1, 66]])
    texts = {text.get_text() for text in left.texts}
    assert {r"$r_\epsilon$ = 1e-6", r"$r_\epsilon$ = 0.0001, default"} <= texts
    assert (left.get_xscale(), left.get_yscale()) == ("log", "log")


def test_later_step_sizes_by_the_first(gather):
    data = gather(*by_start())
    (axes,) = dict(step_size_figures(data))[
        "step_size_by_start-cifar-efficientnet_lite0-lite"
    ].axes  # fmt: skip
    first, tenth, last = lines(axes)
    np.testing.assert_allclose(first, [[s, s] for s in STARTS])
    np.testing.assert_allclose(tenth, [[s, 10 * s] for s in STARTS])
    np.testing.assert_allclose(last, [[s, 0.1 + s] for s in STARTS])
    assert {text.get_text() for text in axes.texts} >= {"t = 1", "t = 10", "t = 100"}


def test_a_start_that_diverged_or_logged_other_steps_takes_no_other_away(gather):
    others = made_up.record(0.5, 0.8, opt="dog", changed={"reps_rel": 1e-3}, seed=0)
    diverged = made_up.record(
        0.5, 0.1, opt="dog", changed={"reps_rel": 1e-1}, seed=0, status="diverged"
    )
    data = gather(
        *by_start(), (others, {1: 1e-3, 10: 1e-2, 20: 0.1, 100: 0.2}),
        (diverged, {1: 0.1, 10: 9.0, 11: 99.0}),
    )  # fmt: skip
    stem = "step_size_by_start-cifar-efficientnet_lite0-lite"
    (axes,) = dict(step_size_figures(data))[stem].axes
    tenth = lines(axes)[1]
    np.testing.assert_allclose(tenth, [[s, 10 * s] for s in sorted([*STARTS, 1e-3])])
    (first, *_), *rest = by_start()
    data = gather((first | {"status": "diverged"}, {1: 1e-6, 5: 9.0}), *rest, (others, None))
    left = data.curves[data.curves["run_id"] != others["run_id"]]
    few = FigureData(data.comparisons, data.runs, left)
    assert list(dict(step_size_figures(few))) == ["step_size-cifar-efficientnet_lite0-lite"]


def test_a_line_is_over_the_seeds_that_all_its_points_have_and_says_so(gather):
    # Seed 0 has no curve; of seed 2 there is the default alone.
    made = [(record, None) for record, _ in by_start()]
    for seed, shift in ((1, 0.02), (2, 0.15)):
        for start in STARTS if seed == 1 else [1e-4]:
            settings, score = changed(reps_rel=start), BY_START[start] + shift
            record = made_up.record(0.5, score, opt="dog", changed=settings, seed=seed)
            made.append((record, {1: start, 100: seed}))
    data = gather(*made)
    figure = dict(step_size_figures(data))["step_size-cifar-efficientnet_lite0-lite"]
    left, starts = figure.axes
    assert "left: seed 1 · DoG: mean over 2 seeds" in figure.texts[1].get_text()
    assert [points[-1, 1] for points in lines(left)] == [1, 1, 1]
    ((_, several),) = sensitivity_figures(data)
    for axes in (starts, several.axes[0]):
        np.testing.assert_allclose(lines(axes)[0], [[s, 100 * BY_START[s] + 1] for s in STARTS])
        (ring,) = [line.get_ydata() for line in axes.lines if line.get_markersize() == 10]
        assert ring == pytest.approx([81])
    assert "seeds that all its points have" in several.texts[1].get_text()


def test_sensitivity_has_a_row_an_optimizer_and_a_line_a_problem(gather):
    movies = {"task": "movies", "model": "minilm"}
    both = made_up.record(0.5, 0.99, opt="dog", seed=0, changed={"lr": 2.0, "reps_rel": 1e-6})
    tuning = made_up.record(0.5, 0.99, opt="dog", seed=100, changed={"reps_rel": 1e-5})
    data = gather(
        *by_start(), *by_factor(), *by_start(shift=0.1, **movies), *by_start(opt="ldog"),
        (both, None), (tuning, None),
    )  # fmt: skip
    ((stem, figure),) = sensitivity_figures(data)
    assert stem == "sensitivity-lite"
    starts, factors, ldog = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["DoG", "DoG", "L-DoG"]
    cifar, movie = lines(starts)
    np.testing.assert_allclose(cifar, [[s, 100 * BY_START[s]] for s in STARTS])
    np.testing.assert_allclose(movie, [[s, 100 * BY_START[s] + 10] for s in STARTS])
    np.testing.assert_allclose(lines(factors)[0], [[c, 100 * a] for c, a in BY_FACTOR.items()])
    assert len(lines(ldog)) == 1
    labels = {text.get_text() for text in factors.texts}
    assert labels == {"cifar · efficientnet_lite0", "movies · minilm"}


def test_batch_norm_frozen_and_trained_and_a_network_without(gather):
    data = gather(
        *by_start(batch_norm="frozen"),
        *by_start(batch_norm="train", shift=-0.3),
        *by_start(model="squeezenet", shift=0.05),
        *by_start(batch_norm="train", steps=99),  # differs in more than its statistics
    )
    ((stem, figure),) = batch_norm_figures(data)
    assert stem == "batch_norm-cifar-efficientnet_lite0-lite"
    (axes,) = figure.axes
    drawn = {text.get_text() for text in axes.texts}
    assert {
        "efficientnet_lite0: frozen statistics",
        "efficientnet_lite0: trained statistics",
        "squeezenet: none",
    } <= drawn
    heights = sorted(points[1, 1] for points in lines(axes))
    np.testing.assert_allclose(heights, [50, 80, 85])


def test_a_network_without_batch_norm_is_one_line_whatever_adapters_it_was_tried_with(gather):
    def with_adapters(record, points):
        record["settings"]["model"]["lora"] = 8
        ids = {"run_id": run_id(record["settings"]), "problem_id": problem_id(record["settings"])}
        return record | ids, points

    without = [*by_start(model="squeezenet", shift=0.05)]
    adapted = [with_adapters(*made) for made in by_start(model="squeezenet", shift=-0.05)]
    both = [*by_start(batch_norm="frozen"), *by_start(batch_norm="train", shift=-0.3)]
    ((_, drawn),) = batch_norm_lines(gather(*both, *without, *adapted))
    labels = [label for label, *_ in drawn]
    assert len(labels) == len(set(labels)) == 3


def test_distance_is_that_of_the_default_alone(gather):
    data = gather(*by_start(), *by_start(task="movies"))
    ((stem, figure),) = distance_figures(data)
    assert stem == "distance-lite"
    for points in lines(figure.axes[0]):
        np.testing.assert_allclose(points, [[1, 1e-3], [10, 1e-2], [100, 1.001]])
    assert len(lines(figure.axes[0])) == 2


def test_no_figure_shows_two_protocols_or_two_versions_of_one(gather):
    smoke, old = {"protocol": ("smoke", 1), "steps": 250}, {"protocol": ("lite", 0)}
    data = gather(
        *by_start(batch_norm="frozen"), *by_factor(batch_norm="frozen"),
        *by_start(shift=0.1, batch_norm="train", **smoke), *by_start(shift=0.15, **old),
    )  # fmt: skip
    made = dict(all_figures(data))
    assert {"sensitivity-lite", "sensitivity-smoke", "distance-lite", "distance-smoke"} <= set(made)
    for name, score in (("lite", 80), ("smoke", 90)):
        (points,) = lines(made[f"sensitivity-{name}"].axes[0])
        assert points[1, 1] == pytest.approx(score)
        assert len(lines(made[f"distance-{name}"].axes[0])) == 1
    assert not any(stem.startswith("batch_norm") for stem in made)


def test_starts_at_other_numbers_of_steps_are_no_lines_beside_the_protocols(gather):
    made = dict(all_figures(gather(*by_start(), *by_start(shift=0.1, steps=100))))
    (points,) = lines(made["sensitivity-lite"].axes[0])
    assert points[1, 1] == pytest.approx(80)
    assert len([stem for stem in made if stem.startswith("step_size-")]) == 1


def test_without_their_data_nothing_is_drawn(gather):
    default = made_up.record(0.5, 0.8, opt="dog", seed=0)
    few = [run for run, _ in by_start() if run["opt_changed"] != {"reps_rel": 1e-2}]
    data = gather((default, None), *((run, None) for run in few), *rates(task="movies"))
    for kind in (step_size_figures, sensitivity_figures, batch_norm_figures, distance_figures):
        assert list(kind(data)) == []


def test_the_same_records_give_the_same_bytes_with_and_without_runs(gather, tmp_path):
    data = gather(*by_start(batch_norm="frozen"), *by_start(batch_norm="train"), *rates())
    pack("all", map(Path, records.run_folders(tmp_path / "runs")), tmp_path / "archive")
    frame = records.collect(tmp_path / "no runs", tmp_path / "records.csv")
    clone = curves.collect(tmp_path / "no runs", tmp_path / "curves.csv", frame)
    first = write_figures(data.comparisons, frame, data.curves, tmp_path / "first")
    second = write_figures(compare_problems(frame), frame, clone, tmp_path / "second")
    assert first.keys() == second.keys() and len(first) >= 8
    for stem in first:
        assert first[stem].read_bytes() == second[stem].read_bytes()
        assert b"do not edit" in first[stem].read_bytes()[:1000]


def test_problems_of_one_name_are_told_apart_by_what_differs(gather):
    data = gather(*by_start(batch_norm="frozen"), *by_start(batch_norm="train", steps=99))
    named = sorted(each.name for each in data.comparisons)
    assert named == [
        "cifar · efficientnet_lite0, batch_norm=frozen, steps=468",
        "cifar · efficientnet_lite0, batch_norm=train, steps=99",
    ]


def test_many_numbers_of_steps_are_a_range(gather):
    made = [made_up.record(0.5, opt="dog", steps=number) for number in (1000, 468, 184218)]
    counted = gather(*((record, None) for record in made)).comparisons
    assert steps_of(counted) == "468 to 184,218 steps"
    two = [table for table in counted if table.problem.steps < 2000]
    assert steps_of(two) == "468 or 1,000 steps"
