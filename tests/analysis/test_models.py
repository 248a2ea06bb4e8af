"""What is said over all tasks of a model agrees with calculations by hand."""

import made_up_records as made_up
import numpy as np
import pytest

from analysis import records, variants
from analysis.comparison import compare_problems
from analysis.tables import models
from analysis.tables.page import files_of
from runner import config

# DoG's and SGD's errors on seeds 0 and 1 of each task: RED 0.5, 0.25 and −0.5.
ERRORS = {
    "a": ((0.2, 0.4), (0.1, 0.2)),
    "b": ((0.4, 0.4), (0.3, 0.3)),
    "c": ((0.2, 0.2), (0.3, 0.3)),
}


@pytest.fixture
def build(tmp_path):
    return lambda *made: compare_problems(made_up.collected(tmp_path, *made))


def reported(**choices):
    for task, (dog, sgd) in ERRORS.items():
        for seed in (0, 1):
            where = {"seed": seed, "task": task, **choices}
            yield made_up.record(1 - dog[seed], opt="dog", **where)
            yield made_up.record(1 - sgd[seed], opt="sgd", seconds=1800, **where)


def line(made, optimizer="sgd", row="default"):
    frame = models.compare_over_tasks(made)
    found = frame[(frame["optimizer"] == optimizer) & (frame["row"] == row)]
    assert len(found) == 1
    return found.iloc[0]


def test_red_over_tasks_by_hand(build):
    sgd = line(build(*reported()))
    assert (sgd.tasks, sgd.task_names) == (3, "a, b, c")
    assert (sgd.red_q1, sgd.red_median, sgd.red_q3) == pytest.approx((-0.125, 0.25, 0.375))
    assert sgd.red_mean == pytest.approx(0.25 / 3)
    # Pairs on task a: of 0.2 with 0.1 and 0.2, 0.5 and 0; of 0.4 with them, 0.75 and 0.5.
    assert sgd.pairs_mean == pytest.approx((1.75 / 4 + 0.25 - 0.5) / 3)
    # In each task SGD's error is the same part of DoG's on both seeds.
    assert (sgd.these_low, sgd.these_high) == pytest.approx((0.25, 0.25))
    assert np.isnan([sgd.like_low, sgd.like_high]).all()
    assert (sgd.verdict_these, sgd.verdict_like) == ("worse", "inconclusive")
    assert (sgd.runs, sgd.hours) == (3, pytest.approx(1.5))


def test_near_best_is_the_profile_at_the_margin_over_all_tasks(build):
    # SGD is best on a and b, DoG far behind there; L-DoG is within 5 % on c and ran nowhere else.
    built = build(*reported(), made_up.record(1 - 0.209, opt="ldog", task="c"))
    near = models.compare_over_tasks(built).set_index("optimizer")["near_best"]
    assert near.to_dict() == pytest.approx({"dog": 1 / 3, "ldog": 1 / 3, "sgd": 2 / 3})
    errors = models.mean_errors(built)
    assert errors.loc[("dog", "default")].tolist() == pytest.approx([0.3, 0.4, 0.2])
    assert errors.loc[("ldog", "default")].isna().tolist() == [True, True, False]


def test_dog_is_the_reference_and_judged_by_nobody(build):
    dog = line(build(*reported()), "dog")
    assert dog.red_median == 0 and np.isnan([dog.these_low, dog.like_high]).all()
    assert (dog.verdict_these, dog.verdict_like) == ("", "")
    shown = models.shown_lines(models.compare_over_tasks(build())).set_index("optimizer").loc["DoG"]
    assert shown["median RED %"] == "reference"
    assert shown[["quartiles", "mean", "of pairs"]].tolist() == ["–"] * 3


def test_six_tasks_bear_a_verdict_on_tasks_like_them_and_five_do_not(build):
    made = []
    for task in "abcdef":
        for seed in (0, 1):
            made.append(made_up.record(0.8, opt="dog", seed=seed, task=task))
            made.append(made_up.record(0.6, seed=seed, task=task))
    built = build(*made)
    assert line(built).verdict_like == "better"
    assert line(built[:5]).verdict_like == "inconclusive"


def test_of_tasks_with_the_same_texts_one_counts_for_tasks_like_these(build):
    errors = {task: 0.1 + place / 100 for place, task in enumerate(("movies", *"abcde"))}
    built = build(
        *(
            made_up.record(1 - error, opt=opt, task=task, seed=seed)
            for task, sgd in {**errors, "rotten_tomatoes": 0.3}.items()
            for opt, error in (("dog", 0.2), ("sgd", sgd))
            for seed in (0, 1)
        )
    )
    # REDs of 0.5 to 0.25, and −0.5 of the texts of movies again, which does not count.
    sgd = line(built)
    assert (sgd.tasks, sgd.red_median) == (7, pytest.approx(0.35))
    assert (sgd.like_low, sgd.like_high) == pytest.approx((0.25, 0.5))
    assert np.isnan(line([each for each in built if each.problem.task != "a"]).like_low)


def test_a_verdict_on_one_task_is_by_students_t(build):
    made = [made_up.record(0.8, opt="dog", seed=seed) for seed in range(4)]
    made += [made_up.record(0.7 + 0.01 * seed, seed=seed) for seed in range(4)]
    # Errors 0.27 to 0.3 beside 0.2: RED −0.425, standard deviation 0.0645, quantile 3.182.
    alone = line(build(*made))
    assert alone.verdict_these == "better"
    assert alone.these_high == pytest.approx(-0.425 + 3.182 * 0.0645 / 2, abs=1e-3)


def test_the_number_of_verdicts_is_told_with_what_it_does_to_them(build):
    built = build(*reported(), *reported(model="other"))
    (note,) = [one for one in notes(built) if "verdicts" in one]
    assert note.startswith("- 2 verdicts stand in this table") and "0.1 miss the truth" in note
    alone = [one for one in built if one.problem.model == "other"]
    assert not [one for one in notes(alone) if "verdicts" in one]


def test_what_a_table_leaves_out_and_in_what_its_runs_differ_is_told_here_too(build):
    others = [made_up.record(0.1, seed=5, task="a", data="other"),
              made_up.record(0.7, seed=5, task="b", numerics={"threads": 1})]  # fmt: skip
    text = "\n".join(notes(build(*reported(), *others)))
    assert "- a-efficientnet_lite0-lite: Left out: 1 run of the same settings on other data" in text
    assert "- b-efficientnet_lite0-lite: Runs differ in what can change the last digits" in text


def test_a_task_with_few_errors_of_dog_is_dropped_and_named(build):
    extra = [made_up.record(0.999, opt="dog", task="d"), made_up.record(0.5, task="d")]
    made = build(*reported(), *extra)
    sgd = line(made)
    assert (sgd.tasks, sgd.red_median) == (3, pytest.approx(0.25))
    assert sgd.runs == 4
    (dropped,) = [note for note in notes(made) if note.startswith("- Dropped")]
    assert "d-efficientnet_lite0-lite" in dropped and "fewer than 10 errors" in dropped


def notes(made):
    return files_of(models.pages_of_models(made))["models-lite.md"].splitlines()


def test_models_budgets_and_protocols_are_never_in_one_line(build):
    made = [*reported(), *reported(model="other"), *reported(budget="probe")]
    built = build(*made, *reported(protocol=("smoke", 1)))
    frame = models.compare_over_tasks(built)
    assert len(frame) == 4 * 2 and set(frame["tasks"]) == {3}
    assert sorted(files_of(models.pages_of_models(built))) == [
        f"models-{protocol}.{suffix}"
        for protocol in ("lite", "smoke")
        for suffix in ("csv", "md", "tex")
    ]


def variant(task="a", opt="dog", score=0.5, seed=0, started="2025-01-01", **settings):
    made = made_up.record(score, opt=opt, task=task, seed=seed, **settings)
    made["measured"]["started"] = f"{started}T00:00:00+00:00"
    return made


def left_out(made):
    (note,) = [note for note in notes(made) if note.startswith("- Left out")]
    return note


def test_of_a_tasks_variants_the_one_with_the_most_runs_is_taken_and_the_other_named(build):
    longer = variant(steps=10_000)
    built = build(*reported(), longer, variant(opt="sgd", steps=10_000))
    assert line(built).red_median == pytest.approx(0.25)
    assert "a-efficientnet_lite0-lite-steps=10000" in left_out(built)
    assert left_out(built).endswith("with 2 runs, fewer than its 4.")


def test_of_variants_with_equally_many_runs_the_longer_is_taken_and_then_the_one_run_last(build):
    longer = build(variant(), variant(steps=10_000))
    assert left_out(longer).endswith("with 468 steps, fewer than its 10,000.")
    for late, early in (("x", "y"), ("y", "x")):  # whatever their ids
        task = f"{late} last"
        last = variant(task=task, augment=late, started="2026-01-01")
        made = [one for one in build(variant(task=task, augment=early), last)
                if one.problem.task == task]  # fmt: skip
        assert left_out(made).endswith("alike in runs and steps and not run later.")
        (taken,) = [one for one in made if one.stem == f"{task}-efficientnet_lite0-lite"]
        assert taken.problem.problem_id == last["problem_id"]


def test_low_rank_adapters_are_a_departure_from_the_protocol():
    def departures(*words):
        spec = config.load(["task=movies", *words]).spec
        problem = {"task": "movies", "model": "minilm", "protocol": "lite", "steps": 400}
        problem |= {"protocol_version": spec.settings["protocol"]["version"], "batch_size": 8}
        return variants.departures(
            problem | {"problem_settings": records.problem_text(spec.settings)}
        )

    assert departures() == []
    assert departures("model=minilm", "model.lora=8") == ["model.lora=8"]


def test_the_protocols_own_variant_is_taken_whatever_else_was_run(build):
    own, *others = (
        variant("cifar", opt, score, seed, batch_norm=mode)
        for mode, opt, score, seed in (
            ("frozen", "dog", 0.8, 0), ("train", "dog", 0.6, 0), ("train", "dog", 0.6, 1),
            ("train", "sgd", 0.7, 0),
        )
    )  # fmt: skip
    built = build(own, *others)
    assert left_out(built).endswith(
        "which departs more from the protocol's own settings: model.batch_norm=train."
    )
    assert models.compare_over_tasks(built)["optimizer"].tolist() == ["dog"]
    # Its files have the plain name, and each title says which variant it is.
    titles = {one.stem: one.title for one in built}
    other = "cifar-efficientnet_lite0-lite-batch_norm=train"
    assert titles == {
        "cifar-efficientnet_lite0-lite": "cifar · efficientnet_lite0 · lite v1 · batch_norm=frozen",
        other: "cifar · efficientnet_lite0 · lite v1 · batch_norm=train",
    }


def test_divergence_crashes_edges_and_break_even_are_counted(build):
    made = list(reported())
    for task, dog in (("a", 0.7), ("b", 0.6), ("c", 0.8)):
        made.append(made_up.record(dog, opt="dog", seed=100, task=task))
    for task, best in (("a", 0.95), ("b", 0.65), ("c", 0.75)):
        # DoG errs 0.3, 0.4 and 0.2 on the trials' seed: one run is enough, two are, and none.
        for rate, score in ((0.1, best), (1.0, 0.5)):
            choices = {"seed": 100, "task": task, "seconds": 3600}
            made.append(made_up.record(score, changed={"lr": rate}, **choices))
        best_rate = {"changed": {"lr": 0.1}, "task": task}
        made.append(made_up.record(0.1, status="diverged", seed=0, **best_rate))
        made.append(made_up.failure(seed=1, **best_rate))
    built = build(*made)
    tuned = line(built, row="instance-tuned")
    assert (tuned.diverged, tuned.crashed, tuned.edges) == (3, 3, 3)
    assert tuned.break_even_runs == 2 and tuned.break_even_hours == pytest.approx(2)
    assert (tuned.runs, tuned.hours) == (6, pytest.approx(6))
    assert np.isnan(line(built).break_even_runs)
    without_a = line(built[1:], row="instance-tuned")
    assert without_a.break_even_runs == np.inf
    (shown,) = [one for one in notes(built[1:]) if "| instance-tuned " in one]
    assert "never" in shown


def test_tasks_without_dog_have_no_red_and_their_cost_is_still_charged(build):
    sgd = line(build(made_up.record(0.5, task="a"), made_up.record(0.5, task="b")))
    assert sgd.tasks == 0 and np.isnan(sgd.red_median) and sgd.runs == 2
    assert (sgd.verdict_these, sgd.task_names) == ("inconclusive", "")
