"""The tables say what the records say: against calculations by hand."""

from functools import partial

import made_up_records as made_up
import numpy as np
import pandas as pd
import pytest

from analysis import statistics
from analysis.all_tables import all_pages, write_tables
from analysis.comparison import compare_problems
from analysis.figures.style import error_unit, score_label
from analysis.tables import notes
from analysis.tables.page import files_of
from analysis.tables.problems import CELLS, IDENTITY, heading, render, shown_cells


@pytest.fixture
def frame_of(tmp_path):
    return partial(made_up.collected, tmp_path)


def cells_of(frame, optimizer="sgd", task="cifar"):
    (table,) = [table for table in compare_problems(frame) if table.problem.task == task]
    return table.frame[table.frame["optimizer"] == optimizer].set_index("row")


def test_the_score_is_the_iterate_that_validation_chose_in_each_run(frame_of):
    # Averaged, last, averaged by a tie: whatever would have been better on test.
    frame = frame_of(
        made_up.record((0.1, 0.2), (0.9, 0.3), seed=0),
        made_up.record((0.2, 0.1), (0.4, 0.9), seed=1),
        made_up.record((0.2, 0.2), (0.9, 0.8), seed=2),
    )
    cell = cells_of(frame).loc["default"]
    mean, half_width = statistics.student_t([0.3, 0.4, 0.8])
    assert (cell.test, cell.test_half_width) == (mean, half_width)
    assert (cell["last"], cell.averaged) == (pytest.approx(2.2 / 3), pytest.approx(2 / 3))


def test_red_compares_with_the_default_dog_over_reported_seeds(frame_of):
    frame = frame_of(
        made_up.record(0.9, 0.8, opt="dog", seed=0),
        made_up.record(0.9, 0.6, opt="dog", seed=1),
        made_up.record(0.9, 0.1, opt="dog", seed=100),
        made_up.record(0.9, 0.1, opt="dog", seed=0, changed={"reps_rel": 1e-6}),
        made_up.failure(opt="dog", seed=2),
        made_up.record(0.9, 0.85, seed=0),
        made_up.record(0.9, 0.2, seed=100),
    )
    cell = cells_of(frame).loc["default"]
    # Errors of DoG 0.2 and 0.4, of SGD 0.15.
    assert cell.red == pytest.approx(0.5)
    assert cell.red_of_pairs == pytest.approx((0.05 / 0.2 + 0.25 / 0.4) / 2)
    assert cells_of(frame, "dog").loc["default"].red == 0


def test_a_crashed_seed_is_shown_and_not_imputed_and_a_diverged_one_is_counted(frame_of):
    made = [made_up.record(0.8, seed=seed) for seed in range(3)]
    diverged = made_up.record(0.1, seed=3, status="diverged")
    frame = frame_of(*made, diverged, made_up.failure(seed=4))
    cell = cells_of(frame).loc["default"]
    assert (cell.seeds, cell.tried, cell.diverged) == (4, 5, 1)
    assert cell.test == pytest.approx((3 * 0.8 + 0.1) / 4)
    (table,) = compare_problems(frame)
    shown = shown_cells(table.problem, table.cells).iloc[0]
    assert (shown["seeds"], shown["diverged"]) == ("4/5", "1")
    assert any("Crashed" in note for note in notes.notes_of(table))


def test_runs_and_hours_include_the_tuning(frame_of):
    tuning = [
        made_up.record(score, seed=100, changed=made_up.with_rate(rate), seconds=1800)
        for rate, score in ((0.01, 0.7), (0.1, 0.8), (1.0, 0.75))
    ]
    dog = [made_up.record(0.8, opt="dog", seed=seed, seconds=100) for seed in (100, 0)]
    reported = [made_up.record(0.8, seed=0, seconds=600), made_up.record(0.8, seed=1, seconds=1200)]
    best = [made_up.record(0.8, changed={"lr": 0.1}, seed=seed, seconds=3600) for seed in (0, 1)]
    frame = frame_of(*tuning, *dog, *reported, *best)
    cells = cells_of(frame)
    # Both tuned rows are charged the runs tried: one of them is the run that the user keeps.
    assert cells["runs"].to_dict() == {"default": 1, "model-tuned": 3, "instance-tuned": 3}
    hours = {"default": 0.25, "model-tuned": 1.5, "instance-tuned": 1.5}
    assert cells["hours"].to_dict() == pytest.approx(hours)


def test_a_portfolio_shows_the_reported_runs_of_its_choice_and_is_charged_for_all(frame_of):
    frame = frame_of(
        made_up.record(0.7, opt="dog", seed=100, seconds=1800),
        made_up.record(0.8, opt="ldog", seed=100, seconds=3600),
        *(made_up.record(0.8, 0.6, opt="dog", seed=seed) for seed in (0, 1)),
        *(made_up.record(0.8, 0.7 + 0.1 * seed, opt="ldog", seed=seed) for seed in (0, 1)),
    )
    (table,) = compare_problems(frame)
    assert [cell.label for cell in table.cells] == ["DoG", "L-DoG", "best of k defaults"]
    cell = cells_of(frame, "best_of_defaults").loc["portfolio"]
    # Errors of DoG 0.4, of L-DoG 0.3 and 0.2.
    assert (cell.test, cell.red) == (pytest.approx(0.75), pytest.approx(0.375))
    assert (cell.runs, cell.hours) == (2, pytest.approx(1.5))
    assert "(DoG, L-DoG), that with the best validation score at seed 100: L-DoG." in notes_of(
        frame
    )
    assert "No model-tuned row" not in notes_of(frame)
    # A method that was not run at the tuning seed is named.
    sgd_free = made_up.record(0.9, opt="sgd") | {"opt_role": "tuning_free"}
    assert "Without such a run, and not in it: SGD." in notes_of(frame_of(sgd_free))


def test_a_calibrated_row_is_charged_one_run_here_and_says_how_many_elsewhere(frame_of):
    made = []
    for task in ("cifar", "movies"):
        made.append(made_up.record(0.8, opt="dog", seed=100, task=task))
        for rate, score in ((0.01, 0.7), (0.1, 0.8)):
            changed = made_up.with_rate(rate)
            made.append(made_up.record(score, seed=100, changed=changed, task=task))
    made.append(made_up.record(0.8, changed={"lr": 0.1}, seconds=7200))
    frame = frame_of(*made)
    cell = cells_of(frame).loc["calibrated"]
    assert (cell.setting, cell.runs, cell.runs_elsewhere, cell.hours) == ("lr=0.1", 1, 2, 2.0)
    assert "with any network (movies); it needs 1 run here after the runs on these" in notes_of(
        frame
    )


def test_break_even_says_how_many_of_the_tuning_runs_crashed(frame_of):
    tuning = [made_up.record(score, seed=100, changed=made_up.with_rate(rate), seconds=1800)
              for rate, score in ((0.01, 0.7), (0.1, 0.8))]  # fmt: skip
    crash = made_up.failure(seed=100, changed={"lr": 1.0})
    dog = [made_up.record(0.8, opt="dog", seed=seed) for seed in (100, 0)]
    notes = notes_of(frame_of(*tuning, crash, *dog))
    assert "SGD catches up with DoG after 2 of 2 runs (1 of the 3 tried crashed), 60 min" in notes


def notes_of(frame):
    return "\n".join(note for table in compare_problems(frame) for note in notes.notes_of(table))


def test_a_table_without_tuning_runs_has_defaults_and_says_so(frame_of):
    frame = frame_of(made_up.record(0.8, seed=0), made_up.record(0.8, opt="dog", seed=0))
    assert cells_of(frame).index.tolist() == ["default"]
    assert "No tuned rows" in notes_of(frame)


def test_one_seed_has_no_interval_and_says_so(frame_of):
    frame = frame_of(made_up.record(0.8, seed=0), made_up.record(0.8, opt="dog", seed=0))
    (table,) = compare_problems(frame)
    assert shown_cells(table.problem, table.cells)["accuracy %"].tolist() == ["80.00", "80.00"]
    assert "one seed" in notes_of(frame)
    two = frame_of(made_up.record(0.8, seed=1), made_up.record(0.8, opt="dog", seed=1))
    assert "one seed" not in notes_of(two)


def test_red_is_withheld_below_ten_errors_of_dog_and_without_dog(frame_of):
    frame = frame_of(made_up.record(0.8, seed=0))
    assert np.isnan(cells_of(frame).loc["default"].red)
    assert "no reported run" in notes_of(frame)
    few = frame_of(made_up.record(1 - 9 / 2000, opt="dog", seed=0))
    assert np.isnan(cells_of(few).loc["default"].red)
    assert "fewer than 10 errors" in notes_of(few)


def test_a_setting_that_no_run_reported_is_a_dash(frame_of):
    frame = frame_of(made_up.record(0.8, seed=100, changed={"lr": 0.1}))
    (table,) = compare_problems(frame)
    shown = shown_cells(table.problem, table.cells).set_index("row").loc["instance-tuned"]
    assert shown["learning rate"] == "0.1 †"
    columns = ["accuracy %", "last", "averaged", "RED %", "seeds", "diverged"]
    assert shown[columns].tolist() == ["–"] * len(columns)


def test_problems_of_one_name_are_kept_apart_and_their_difference_is_named(frame_of, tmp_path):
    frame = frame_of(
        made_up.record(0.8, opt="dog"),
        made_up.record(0.4, opt="dog", steps=100, augment="flip"),
        made_up.record(0.4, opt="dog", task="movies"),
    )
    made = compare_problems(frame)
    ids = sorted(frame["problem_id"][frame["task"] == "cifar"].unique())
    assert [len(table.cells) for table in made] == [1, 1, 1]
    (note,) = [
        note
        for note in notes.notes_of(made[0])
        if note.startswith(f"Not compared with problem {ids[1][:6]}")
    ]
    assert "steps" in note and "train.augment=flip" in note
    assert not any("Not compared" in note for note in notes.notes_of(made[2]))


def test_files_of_a_model_with_signs_of_a_path_have_names_without_them(frame_of):
    models = ["timm:resnet50.a1_in1k", "hf:a/b", "hf:a-b"]
    made = compare_problems(
        frame_of(*(made_up.record(0.8, opt="dog", model=model) for model in models))
    )
    stems = sorted(table.stem for table in made)
    assert stems[-1] == "cifar-timm-resnet50.a1_in1k-lite" and len(set(stems)) == 3
    assert stems[0].startswith("cifar-hf-a-b-lite") and not set("".join(stems)) & set(":/")


def test_of_problems_of_one_name_that_with_the_most_runs_keeps_it(frame_of):
    shorter, longer = ({"opt": "dog", "steps": steps} for steps in (100, 1000))
    made = [made_up.record(0.4, **where) for where in (shorter, longer)]

    def stems(*more):
        built = compare_problems(frame_of(*made, *more))
        return {int(table.problem.steps): table.stem for table in built}

    base = "cifar-efficientnet_lite0-lite"
    assert stems() == {100: f"{base}-steps=100", 1000: base}
    more = made_up.record(0.4, seed=1, **shorter)
    assert stems(more) == {100: base, 1000: f"{base}-steps=1000"}


def test_names_do_not_depend_on_the_order_of_runs_some_of_which_are_older_than_an_option(frame_of):
    """An option that is null counts as absent: records with and without it are of one problem."""
    made = []
    for steps in (100, 1000):
        made.append(made_up.record(0.4, opt="dog", steps=steps, seed=0))
        made.append(made_up.record(0.4, opt="dog", steps=steps, seed=1, checkpoint=None))
    made.append(made_up.record(0.4, opt="dog", steps=2000))  # all of whose runs are older
    frame = frame_of(*made)

    def names(frame):
        return [(table.stem, table.name, notes_of(frame)) for table in compare_problems(frame)]

    for seed in range(5):
        assert names(frame.sample(frac=1, random_state=seed)) == names(frame)
    assert {table.variant for table in compare_problems(frame)} == {
        *("steps=100", "steps=1000", "steps=2000")
    }
    assert "checkpoint" not in notes_of(frame)


def test_variants_share_a_page_each_with_a_heading_that_the_summary_leads_to(frame_of, tmp_path):
    for steps, score in ((1000, 0.8), (100, 0.4)):
        made = [made_up.record(score, opt="dog", steps=steps, seed=seed) for seed in (0, 1)]
        made.append(made_up.record(0.6, opt="dog", steps=steps, changed={"reps_rel": 1e-6}))
        frame = frame_of(*made)
    folder, stem = tmp_path / "tables", "cifar-efficientnet_lite0-lite"
    write_tables(compare_problems(frame), frame, folder)
    page = (folder / f"{stem}.md").read_text()
    name = "cifar · efficientnet_lite0 · lite v1 · steps"
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        f"# {name}=1000", f"## Sensitivity: {name}=1000",
        f"## {name}=100", f"### Sensitivity: {name}=100",
    ]  # fmt: skip
    # As GitHub names the heading of the second.
    place = "cifar--efficientnet_lite0--lite-v1--steps100"
    summary = (folder / "summary.md").read_text()
    assert f"[{stem}]({stem}.md)" in summary
    assert f"[{stem}-steps=100]({stem}.md#{place})" in summary
    numbers = pd.read_csv(folder / f"{stem}.csv")
    assert numbers[["variant", "row", "test"]].to_numpy().tolist() == [
        ["steps=1000", "default", 0.8], ["steps=1000", "sensitivity", 0.6],
        ["steps=100", "default", 0.4], ["steps=100", "sensitivity", 0.6],
    ]  # fmt: skip
    assert (folder / f"{stem}.tex").read_text().count(r"\begin{tabular}") == 2
    assert len([*folder.iterdir()]) == 3 + 2 + 3  # with the summary, and the tables of models


def test_older_versions_are_left_out_and_named(frame_of, tmp_path):
    frame = frame_of(
        made_up.record(0.2, opt="dog", task_version=1),
        made_up.record(0.8, opt="dog", task_version=2),
        made_up.record(0.3, opt="dog", task_version=2, protocol=("lite", 0)),
        made_up.record(0.3, opt="dog", task="movies"),
    )
    assert cells_of(frame, "dog")["test"].tolist() == [0.8]
    first, second = compare_problems(frame)
    assert "Left out: 1 run of version 1 of task cifar." in notes.notes_of(first)
    assert "Left out: 1 run of version 0 of protocol lite." in notes.notes_of(first)
    assert not any("Left out" in note for note in notes.notes_of(second))
    write_tables([first, second], frame, tmp_path / "tables")
    assert "version 1 of task cifar" in (tmp_path / "tables" / "summary.md").read_text()


def test_stale_tables_of_ours_are_removed_and_other_files_are_not(frame_of, tmp_path):
    folder = tmp_path / "tables"
    frame = frame_of(made_up.record(0.8), made_up.record(0.8, task="movies"))
    made = compare_problems(frame)
    write_tables(made, frame, folder)
    (folder / "notes.md").write_text("# mine\n")
    (folder / "mine.csv").write_text("a,b\n1,2\n")
    write_tables(made[:1], frame[frame["task"] == "cifar"], folder)
    names = sorted(path.name for path in folder.iterdir())
    stem = "cifar-efficientnet_lite0-lite"
    assert names == [
        f"{stem}.csv",
        f"{stem}.md",
        f"{stem}.tex",
        "mine.csv",
        *(f"models-lite.{suffix}" for suffix in ("csv", "md", "tex")),
        "notes.md",
        "summary.csv",
        "summary.md",
    ]


def test_the_csv_tables_hold_the_cells_as_numbers(frame_of, tmp_path):
    frame = frame_of(*made_up.example("cifar", "movies"))
    made = compare_problems(frame)
    write_tables(made, frame, tmp_path / "tables")
    read = pd.read_csv(tmp_path / "tables" / f"{made[0].stem}.csv", keep_default_na=True)
    assert list(read) == [*IDENTITY, *CELLS]
    read = read[read["row"] != "sensitivity"]
    np.testing.assert_allclose(read["test"], [cell.test for cell in made[0].cells], atol=1e-8)
    summary = pd.read_csv(tmp_path / "tables" / "summary.csv")
    assert len(summary) == sum(len(table.cells) for table in made)


def test_where_lower_is_better_the_metric_is_shown_in_its_own_unit(frame_of):
    lower = {"higher_is_better": False}
    frame = frame_of(
        made_up.record((2.5, 2.0), (2.25, 2.4), opt="dog", seed=0, **lower),
        made_up.record((1.0, 1.5), (1.2, 9.0), seed=0, **lower),
    )
    (table,) = compare_problems(frame)
    assert shown_cells(table.problem, table.cells)["loss"].tolist() == ["2.4", "1.2"]
    assert "a diverged run counts as the start" in notes_of(frame)
    assert cells_of(frame).loc["default"].red == pytest.approx(0.5)


def test_correlation_is_shown_as_it_is(frame_of):
    frame = frame_of(
        made_up.record(0.8, 0.75, opt="dog", metric="pearson"),
        made_up.record(0.8, 0.8, metric="pearson"),
    )
    (table,) = compare_problems(frame)
    assert shown_cells(table.problem, table.cells)["pearson"].tolist() == ["0.7500", "0.8000"]
    assert "RED: how much smaller the mean error (1 − pearson) is" in notes_of(frame)
    assert "a diverged run counts as 0." in notes_of(frame)
    assert cells_of(frame).loc["default"].red == pytest.approx(0.2)
    assert score_label(table) == "test pearson"
    assert error_unit(table) == ("test 1 − pearson (log scale)", 1)


def test_a_negative_score_has_the_sign_of_red(frame_of):
    frame = frame_of(
        made_up.record(-0.9, -0.05, opt="dog"),
        made_up.record(-0.9, -0.06),
        made_up.record(-2e-5, opt="dog", task="loss", higher_is_better=False),
    )
    percent, loss = compare_problems(frame)
    shown = shown_cells(percent.problem, percent.cells)
    assert shown["last"].tolist() == ["−5.00", "−6.00"]
    assert shown["RED %"].tolist() == ["reference", "−1.0"]
    # An exponent has a hyphen, as a rate that can be copied.
    assert shown_cells(loss.problem, loss.cells)["last"].tolist() == ["−2e-05"]


def test_where_lower_is_better_a_small_error_of_dog_has_red_and_none_says_why(frame_of):
    lower = {"higher_is_better": False, "examples": 100}
    made = [made_up.record(1e-5, opt="dog", seed=seed, **lower) for seed in (0, 100)]
    frame = frame_of(*made, made_up.record(5e-6, **lower), made_up.record(5e-6, seed=100, **lower))
    assert cells_of(frame)["red"].tolist() == pytest.approx([0.5] * 3)
    assert "model-tuned" in cells_of(frame).index
    frame = frame_of(made_up.record(0.0, opt="dog", task="solved", **lower))
    assert "No RED: DoG's runs reach a loss of 0" in notes_of(frame)


def test_the_head_has_the_number_of_training_examples_that_were_there(frame_of):
    few = made_up.record(0.8, opt="dog")
    few["results"]["train_examples"] = 36
    (table,) = compare_problems(frame_of(few))
    assert "; 36 training, 1,000 validation" in heading(table.problem)
    frame = frame_of(made_up.record(0.8, opt="dog", train_examples=None))
    assert "train.train_examples=null here" in notes_of(frame)


def dog_and_sgd(dog, sgd=0.8, **where):
    """DoG's run at each of some seeds, by accuracy, and SGD's default and grid at the tuning's."""
    yield from (made_up.record(0.8, score, opt="dog", seed=seed) for seed, score in dog.items())
    for rate, score in ((0.01, sgd), (0.1, 0.5)):
        changed = made_up.with_rate(rate)
        yield made_up.record(score, changed=changed, seed=100, seconds=3600, **where)


def test_break_even_is_with_dogs_run_on_the_seed_of_the_trials(frame_of):
    # The mean over the reported seeds, 0.9, is never reached; 0.75 on seed 100 is.
    frame = frame_of(*dog_and_sgd({100: 0.75, 0: 0.85, 1: 0.95}))
    (table,) = compare_problems(frame)
    assert table.reference_error == pytest.approx(0.25)
    assert table.break_even["sgd"].runs == 2
    assert "whose accuracy % is 75.00 (mean over its reported seeds: 90.00)" in notes_of(frame)


def test_without_dog_on_the_seed_of_the_trials_there_is_no_break_even_and_a_note(frame_of):
    frame = frame_of(*dog_and_sgd({0: 0.75}))
    (table,) = compare_problems(frame)
    assert table.break_even == {} and np.isnan(table.reference_error)
    assert "No break-even: it needs a run of DoG at seed 100" in notes_of(frame)


def test_few_errors_matter_only_where_the_metric_counts_them(frame_of):
    # 0.004 · 2,000 is 8: too few errors, but no number at all of Matthews' correlation.
    made = [made_up.record(0.996, opt="dog"), made_up.record(0.995)]
    assert np.isnan(cells_of(frame_of(*made)).loc["default"].red)
    for one in made:
        one["settings"]["task"] |= {"metric": "matthews", "name": "cola"}
        one |= {"problem_id": "1234567890", "run_id": one["run_id"].replace("cifar", "cola")}
    assert cells_of(frame_of(*made), task="cola").loc["default"].red == pytest.approx(-0.25)


def test_runs_of_other_data_are_left_out_and_counted(frame_of):
    mine = [made_up.record(0.8, opt="dog", seed=seed) for seed in (0, 1)]
    other = made_up.record(0.2, opt="dog", seed=2, data="other examples")
    crash = made_up.failure(opt="dog", seed=3)  # before any data were read
    frame = frame_of(*mine, other, crash)
    cell = cells_of(frame, "dog").loc["default"]
    assert (cell.test, cell.seeds, cell.tried) == (0.8, 2, 3)
    assert "Left out: 1 run of the same settings on other data" in notes_of(frame)
    summary = files_of(all_pages(compare_problems(frame), frame))["summary.md"]
    assert "Left out: 1 run of the same settings on other data" in summary
    # Of two data with equally many runs the one run last counts.
    late = [made_up.record(0.3, opt="dog", seed=seed, data="other examples") for seed in (2, 4)]
    late[1]["measured"]["started"] = "2026-01-01T00:00:00+00:00"
    assert cells_of(frame_of(*mine, *late), "dog").loc["default"].test == pytest.approx(0.3)
    assert "Left out: 2 runs of the same settings on other data" in notes_of(frame_of())


def test_the_same_run_on_the_same_data_counts_once(frame_of):
    copy = made_up.record(0.8, opt="dog", seed=0)
    copy["run_id"] = "cifar-dog-0123456789"  # its data were read from another folder
    frame = frame_of(copy, *(made_up.record(0.8, opt="dog", seed=seed) for seed in (0, 1)))
    assert len(frame) == 3
    cell = cells_of(frame, "dog").loc["default"]
    assert (cell.seeds, cell.tried) == (2, 2)


def test_what_can_change_the_last_digits_is_named_where_compared_runs_differ_in_it(frame_of):
    dog, sgd = made_up.record(0.8, opt="dog"), made_up.record(0.7)
    assert "last digits" not in notes_of(frame_of(dog, sgd))
    alone = made_up.record(0.7, changed={"weight_decay": 0.1}, numerics={"kernel": "foreach"})
    assert "last digits" not in notes_of(frame_of(alone))  # which no row shows
    sgd["numerics"] |= {"threads": 1, "torch": "2.15.0"}
    del sgd["numerics"]["kernel"]  # of our optimizers alone
    assert "Runs differ in what can change the last digits: threads 1 and 2." in notes_of(
        frame_of(sgd)
    )
    old = made_up.record(0.8, opt="dog", seed=1)
    old["numerics"] = None
    assert "threads 1 and 2; of 1 of 3 runs it is not known." in notes_of(frame_of(old))


def test_times_of_several_devices_are_said_to_be_no_comparison(frame_of):
    dog, sgd = made_up.record(0.8, opt="dog"), made_up.record(0.7)
    assert "two machines" not in notes_of(frame_of(dog, sgd))
    gpu = made_up.record(0.7, seed=1, numerics={"device": "cuda"})
    assert "time: the runs of cifar-efficientnet_lite0-lite are of cpu and cuda" in notes_of(
        frame_of(gpu)
    )
    gpus = [
        made_up.record(0.7, seed=seed, numerics={"device": "cuda", "processor": name})
        for seed, name in ((1, "H100"), (2, "H200"))
    ]
    assert "are of H100 and H200 and cpu" in notes_of(frame_of(*gpus))


def test_the_summary_leads_to_the_tables_with_verdicts(frame_of):
    frame = frame_of(made_up.record(0.8), made_up.record(0.8, protocol=("smoke", 1)))
    summary = files_of(all_pages(compare_problems(frame), frame))["summary.md"]
    for name in ("models-lite.md", "models-smoke.md"):
        assert f"[{name}]({name})" in summary


def test_render_shows_the_wanted_problems_only(frame_of):
    frame = frame_of(made_up.record(0.8), made_up.record(0.8, task="movies"))
    made = compare_problems(frame)
    shown = render(made, [made[1].problem.problem_id])
    assert "movies" in shown and "cifar" not in shown
    assert render(made, []) == ""
    assert render(made, [""]).count("| optimizer") == 2
