"""The figure shows the runs of its table, the same bytes every time."""

from itertools import pairwise

import made_up_records as made_up
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis import choice, curves
from analysis.comparison import compare_problems
from analysis.figures import style, write_figures
from analysis.figures.data import FigureData
from analysis.figures.rates import rates_figures

NO_CURVES = curves.of_records([])


@pytest.fixture
def frame(tmp_path):
    made = [made_up.record(0.8, opt="dog", seed=seed) for seed in (100, 0, 1)]
    made += [made_up.record(0.82 + seed / 1000, opt="ldog", seed=seed) for seed in (0, 1)]
    for rate, score in ((1.0, 0.1), (0.01, 0.6), (0.1, 0.75)):
        changed = {} if rate == 0.01 else {"lr": rate}
        made.append(made_up.record(score, score - 0.05, seed=100, changed=changed))
    made.append(made_up.record(0.75, 0.71, seed=0, changed={"lr": 0.1}))
    made.append(made_up.failure(seed=1, changed={"lr": 0.1}))
    return made_up.collected(tmp_path, *made)


def drawn_rates(frame):
    (table,) = compare_problems(frame)
    ((stem, figure),) = rates_figures(FigureData.from_records([table], frame, NO_CURVES))
    assert stem == table.stem
    return figure


def test_the_same_records_give_the_same_bytes(frame, tmp_path):
    made = compare_problems(frame)
    for name in ("a", "b"):
        write_figures(made, frame, NO_CURVES, tmp_path / name)
    first, second = ((tmp_path / name / f"{made[0].stem}.svg") for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text().startswith("<?xml")
    assert "<dc:date>" not in first.read_text()


def test_it_draws_tuning_runs_by_rate_and_dog_across(frame):
    axes = drawn_rates(frame).axes[0]
    drawn = [line.get_xydata() for line in axes.lines if line.get_transform() == axes.transData]
    curve, reported = (xy for xy in drawn if len(xy) in (1, 3))
    np.testing.assert_allclose(curve, [[0.01, 45], [0.1, 30], [1.0, 95]])
    np.testing.assert_allclose(reported, [[0.1, 29]])
    heights = [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    np.testing.assert_allclose(heights, [20, 17.95, 90])
    texts = {label.get_text() for label in axes.texts}
    assert {"DoG", "L-DoG", "SGD", "majority class"} <= texts
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_problem_without_tuning_runs_has_no_figure_and_a_stale_one_is_removed(frame, tmp_path):
    made = compare_problems(frame)
    path = write_figures(made, frame, NO_CURVES, tmp_path / "figures")[made[0].stem]
    assert path.exists()
    other = path.with_name("other.svg")
    other.write_text("<svg/>")
    untuned = frame[frame["seed"] != choice.TUNING_SEED]
    drawn = write_figures(compare_problems(untuned), untuned, NO_CURVES, tmp_path / "figures")
    assert made[0].stem not in drawn
    assert not path.exists() and other.exists()


def test_an_error_of_nothing_can_be_drawn(frame):
    perfect = frame.assign(test_last=1.0, test_averaged=1.0)
    axes = drawn_rates(perfect).axes[0]
    errors = np.concatenate([line.get_ydata() for line in axes.lines if line.get_marker() == "o"])
    assert errors[0] == pytest.approx(100 * 0.5 / 2000)


def test_a_suboptimality_is_drawn_as_it_is_and_one_of_nothing_below_all_others(frame):
    small = frame.assign(metric="suboptimality", higher_is_better=False)
    small[["test_last", "test_averaged"]] = 1e-6
    nothing = (small["optimizer"] == "sgd") & (small["learning_rate"] == 0.1)
    small.loc[nothing, ["test_last", "test_averaged"]] = 0.0
    drawn = [line.get_ydata() for line in drawn_rates(small).axes[0].lines]
    (curve,) = [errors for errors in drawn if len(errors) == 3 and np.ptp(errors) > 0]
    np.testing.assert_allclose(curve, [1e-6, 5e-7, 1e-6])
    (table,) = compare_problems(small)
    none = small.assign(test_last=0.0, test_averaged=0.0)
    assert list(rates_figures(FigureData.from_records([table], none, NO_CURVES))) == []


def test_of_many_optimizers_each_label_is_whole_and_clear_of_the_others(frame):
    ldog = frame[frame["optimizer"] == "ldog"]
    many = [
        ldog.assign(optimizer=f"free{number}", label=f"A Method of a Long Name {number}",
                    run_id=ldog["run_id"] + str(number))
        for number in range(22)
    ]  # fmt: skip
    figure = drawn_rates(pd.concat([frame, *many], ignore_index=True))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    names = ("A Method", "DoG", "L-DoG", "SGD", "majority")
    texts = [text for text in figure.axes[0].texts if text.get_text().startswith(names)]
    boxes = sorted((text.get_window_extent() for text in texts), key=lambda box: box.y0)
    assert len(boxes) == 26
    assert all(above.y0 > below.y1 - 2 for below, above in pairwise(boxes))
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert max(box.y1 for box in boxes) <= figure.axes[0].bbox.y1 + 10


def test_labels_keep_their_distance_and_move_no_more_than_needed():
    heights = np.array([0.5, 0.1, 0.52, 0.9, 0.51])
    spread = style.spread(heights, 0.1)
    assert np.diff(np.sort(spread)).min() >= 0.1 - 1e-12
    assert spread[[1, 3]].tolist() == [0.1, 0.9]
    assert spread[[0, 4, 2]] == pytest.approx([0.41, 0.51, 0.61])


def test_labels_stay_beside_the_axes():
    spread = style.spread(np.array([0.99, 1.0, 0.98, 0.0, 0.01]), 0.1)
    assert np.sort(spread) == pytest.approx([0, 0.1, 0.8, 0.9, 1])
    assert style.spread(np.array([]), 0.1).shape == (0,)
