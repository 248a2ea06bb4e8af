"""Tuned settings are chosen by the protocol's rules, from validation scores alone."""

from dataclasses import asdict
from functools import partial

import made_up_records as made_up
import numpy as np
import pytest

from analysis import choice
from analysis.comparison import compare_problems

TUNED = ["model-tuned", "instance-tuned"]


@pytest.fixture
def frame_of(tmp_path):
    return partial(made_up.collected, tmp_path)


def trial(rate, validation, opt="sgd", **choices):
    """A run at the tuning seed; the default is that of made_up_records."""
    default = made_up.DEFAULTS[opt]["lr"]
    changed = {} if rate in (None, default) else {"lr": rate}
    make = made_up.record if validation is not None else lambda _, **rest: made_up.failure(**rest)
    return make(validation, opt=opt, changed=changed, **{"seed": 100, **choices})


def grid(scores, **choices):
    return [trial(rate, score, **choices) for rate, score in scores.items()]


def choices_of(frame, optimizer="sgd", task="cifar"):
    chosen = [one for one in choice.choose(frame) if (one.optimizer, one.task) == (optimizer, task)]
    return {one.row: asdict(one) for one in chosen}


def test_an_optimizer_without_a_grid_has_its_default_alone(frame_of):
    chosen = choices_of(frame_of(trial(None, 0.8, opt="dog")), "dog")
    assert list(chosen) == ["default"]
    assert chosen["default"]["overrides"] == {} and chosen["default"]["tuning_runs"] == 0


def test_a_choice_that_rests_on_a_task_of_other_steps_names_them(frame_of):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        trial(None, 0.8, opt="dog", task="movies", steps=1250),
        *grid({0.01: 0.7, 0.1: 0.8}),
        *grid({0.01: 0.9, 0.1: 0.85}, task="movies", steps=1250),
    )
    cifar, movies = choices_of(frame), choices_of(frame, task="movies")
    assert cifar["model-tuned"]["tuning_tasks"] == "cifar, movies at 1,250 steps"
    assert cifar["leave-one-task-out"]["tuning_tasks"] == "movies at 1,250 steps"
    assert movies["model-tuned"]["tuning_tasks"] == "cifar at 468 steps, movies"
    assert movies["instance-tuned"]["tuning_tasks"] == "movies"


def test_instance_tuned_is_best_on_the_task_and_model_tuned_best_over_tasks(frame_of):
    # Errors of DoG .2 on both; RED on cifar: −.5, 0, .5; on movies: .5, .25, −1.
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        trial(None, 0.8, opt="dog", task="movies"),
        *grid({0.01: 0.7, 0.1: 0.8, 1.0: 0.9}),
        *grid({0.01: 0.9, 0.1: 0.85, 1.0: 0.6}, task="movies"),
    )
    cifar, movies = choices_of(frame), choices_of(frame, task="movies")
    assert cifar["instance-tuned"]["overrides"] == {"lr": 1.0}
    assert movies["instance-tuned"]["overrides"] == {}
    assert movies["instance-tuned"]["setting"] == "lr=0.01"
    # Medians: 0, .125, −.25.
    for chosen in (cifar, movies):
        assert chosen["model-tuned"]["setting"] == "lr=0.1"
        assert chosen["model-tuned"]["overrides"] == {"lr": 0.1}
        assert chosen["model-tuned"]["tuning_tasks"] == "cifar, movies"


def three_tasks():
    """0.1 is a little better on two tasks, and far worse on the third."""
    made = []
    for task, scores in {
        "a": {0.1: 0.81, 1.0: 0.80},
        "b": {0.1: 0.81, 1.0: 0.80},
        "c": {0.1: 0.20, 1.0: 0.90},
    }.items():
        made += [trial(None, 0.8, opt="dog", task=task), *grid(scores, task=task)]
    return made


def test_model_tuned_is_the_median_of_relative_differences_not_a_mean_of_scores(frame_of):
    assert choices_of(frame_of(*three_tasks()), task="c")["model-tuned"]["setting"] == "lr=0.1"


@pytest.mark.parametrize(
    "other", [{"model": "other"}, {"budget": "probe"}, {"protocol": ("smoke", 1)}]
)
def test_model_tuned_keeps_models_budgets_and_protocols_apart(frame_of, other):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        trial(None, 0.8, opt="dog", task="movies", **other),
        *grid({0.01: 0.7, 0.1: 0.8, 1.0: 0.9}),
        *grid({0.01: 0.9, 0.1: 0.2, 1.0: 0.1}, task="movies", **other),
    )
    chosen = choices_of(frame)["model-tuned"]
    assert (chosen["setting"], chosen["tuning_tasks"]) == ("lr=1", "cifar")


def test_model_tuned_takes_of_another_task_the_variant_like_this_problem(frame_of):
    made = [trial(None, 0.8, opt="dog", steps=steps, task=task)
            for steps in (100, 468) for task in ("cifar", "movies")]  # fmt: skip
    for steps in (100, 468):
        made += grid({0.1: 0.80, 1.0: 0.80}, steps=steps)
    made += grid({0.1: 0.9, 1.0: 0.7}, steps=100, task="movies")
    made += grid({0.1: 0.7, 1.0: 0.9}, steps=468, task="movies")
    frame = frame_of(*made)
    steps = frame.drop_duplicates("problem_id").set_index("problem_id")["steps"]
    by_steps = {
        steps[one.problem_id]: one.setting
        for one in choice.choose(frame)
        if (one.task, one.row) == ("cifar", "model-tuned")
    }
    assert by_steps == {100: "lr=0.1", 468: "lr=1"}


def test_a_rate_that_crashed_on_a_task_cannot_be_model_tuned(frame_of):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        trial(None, 0.8, opt="dog", task="movies"),
        *grid({0.01: 0.7, 0.1: 0.99}),
        *grid({0.01: 0.7, 0.1: None}, task="movies"),
    )
    assert choices_of(frame)["model-tuned"]["setting"] == "lr=0.01"
    assert choices_of(frame)["instance-tuned"]["setting"] == "lr=0.1"


def test_tasks_that_tried_no_rate_in_common_have_no_model_tuned_row(frame_of):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        trial(None, 0.8, opt="dog", task="movies"),
        *grid({0.01: 0.7}),
        *grid({0.1: 0.9}, task="movies"),
    )
    assert list(choices_of(frame)) == ["default", *choice.UNSEEN, "instance-tuned"]


def test_a_task_with_few_errors_of_dog_has_no_say_in_the_model_tuned_rate(frame_of):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        trial(None, 0.995, opt="dog", task="movies"),
        *grid({0.01: 0.7, 0.1: 0.8}),
        *grid({0.01: 0.999, 0.1: 0.5}, task="movies"),
    )
    chosen = choices_of(frame, task="movies")["model-tuned"]
    assert (chosen["setting"], chosen["tuning_tasks"]) == ("lr=0.1", "cifar")


def test_leave_one_task_out_is_model_tuned_without_the_task_and_costs_nothing_here(frame_of):
    # Median RED without movies: of 0.1 on cifar and reuters .25, of 1 −.25; movies alone wants 1.
    made = [trial(None, 0.8, opt="dog", task=task) for task in ("cifar", "reuters", "movies")]
    made += grid({0.01: 0.1, 0.1: 0.85, 1.0: 0.75})
    made += grid({0.01: 0.1, 0.1: 0.85, 1.0: 0.75}, task="reuters")
    made += grid({0.01: 0.1, 0.1: 0.1, 1.0: 0.99}, task="movies")
    frame = frame_of(*made)
    movies = choices_of(frame, task="movies")
    chosen = movies["leave-one-task-out"]
    assert movies["instance-tuned"]["setting"] == "lr=1"
    assert (chosen["setting"], chosen["overrides"]) == ("lr=0.1", {"lr": 0.1})
    assert (chosen["tuning_runs"], chosen["tuning_seconds"]) == (0, 0.0)
    assert (chosen["tuning_runs_elsewhere"], chosen["tuning_tasks"]) == (6, "cifar, reuters")
    assert choices_of(frame)["leave-one-task-out"]["tuning_tasks"] == "movies, reuters"


def test_leave_one_task_out_reads_nothing_of_the_task_itself(frame_of):
    made = [trial(None, 0.8, opt="dog", task=task) for task in ("cifar", "movies")]
    made += [*grid({0.01: 0.7, 0.1: 0.8}), *grid({0.01: 0.7, 0.1: 0.8}, task="movies")]
    frame = frame_of(*made)
    other = frame.copy()
    here = (other["task"] == "cifar") & (other["optimizer"] == "sgd")
    other.loc[here & (other["learning_rate"] == 0.1), "status"] = "failed"
    for one in (frame, other):
        assert choices_of(one)["leave-one-task-out"]["setting"] == "lr=0.1"


def test_one_task_alone_cannot_be_left_out(frame_of):
    frame = frame_of(trial(None, 0.8, opt="dog"), *grid({0.01: 0.7, 0.1: 0.8}))
    assert list(choices_of(frame)) == ["default", *TUNED]


def test_calibrated_is_one_setting_for_a_domain_chosen_on_its_other_tasks_with_any_network(
    frame_of,
):
    # SGD tunes weight decay, too. REDs of its three settings, where DoG errs 0.2:
    #   a, here: the first is far best.       a with big: the first again, but it is the same task.
    #   b:        0.25, 0.5, −0.5
    #   c (big): −0.5,  0.25, 0.5;  medians of b and c: −0.125, 0.375, 0. The second it is.
    settings = [{}, {"lr": 0.1, "weight_decay": 0.01}, {"lr": 0.1, "weight_decay": 0.1}]
    made = []
    for task, model, scores in (
        ("a", "efficientnet_lite0", (0.99, 0.5, 0.5)),
        ("a", "big", (0.99, 0.5, 0.5)),
        ("b", "efficientnet_lite0", (0.85, 0.9, 0.7)),
        ("c", "big", (0.7, 0.85, 0.9)),
    ):
        where = {"task": task, "model": model, "seed": 100}
        made.append(made_up.record(0.8, opt="dog", **where))
        for changed, score in zip(settings, scores, strict=True):
            run = made_up.record(score, changed=changed, **where)
            made.append(run | {"grid": {"lr": [0.01, 0.1], "weight_decay": [0.0, 0.01, 0.1]}})
    problem_id = made[0]["problem_id"]
    here = {one.row: one for one in choice.choose(frame_of(*made)) if one.problem_id == problem_id}
    chosen = here["calibrated"]
    assert chosen.overrides == {"lr": 0.1, "weight_decay": 0.01}
    assert (chosen.tuning_runs, chosen.tuning_runs_elsewhere) == (0, 6)
    assert chosen.tuning_tasks == "b, c with big"
    # Of the same network there is b alone.
    assert here["leave-one-task-out"].overrides == {"lr": 0.1, "weight_decay": 0.01}
    assert here["leave-one-task-out"].tuning_tasks == "b"
    assert here["instance-tuned"].overrides == {}


def test_a_method_without_a_learning_rate_is_calibrated_over_what_it_has_to_set(frame_of):
    made = []
    for task, scores in (("a", (0.7, 0.9)), ("b", (0.7, 0.9)), ("c", (0.9, 0.7))):
        made.append(trial(None, 0.8, opt="dog", task=task))
        for changed, score in zip(({}, {"reps_rel": 1e-6}), scores, strict=True):
            run = made_up.record(score, opt="ldog", changed=changed, seed=100, task=task)
            made.append(run | {"grid": {"reps_rel": [1e-6, 1e-4]}})
    chosen = choices_of(frame_of(*made), "ldog", "c")
    assert chosen["calibrated"]["overrides"] == {"reps_rel": 1e-6}
    assert chosen["calibrated"]["tuning_runs_elsewhere"] == 4
    assert chosen["instance-tuned"]["overrides"] == {}
    assert not any(one["edge"] for one in chosen.values())  # which is about learning rates


@pytest.mark.parametrize("other", [{"budget": "probe"}, {"protocol": ("smoke", 1)}])
def test_calibrated_keeps_domains_and_protocols_apart(frame_of, other):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        trial(None, 0.8, opt="dog", task="movies", **other),
        *grid({0.01: 0.7, 0.1: 0.8}),
        *grid({0.01: 0.9, 0.1: 0.2}, task="movies", **other),
    )
    assert "calibrated" not in choices_of(frame)


def portfolio_of(frame):
    return choices_of(frame, choice.BEST_OF_DEFAULTS).get(choice.PORTFOLIO)


def test_the_portfolio_is_the_default_with_the_best_validation_and_charged_for_all(frame_of):
    frame = frame_of(
        trial(None, (0.7, 0.8), opt="dog", seconds=10.0),
        trial(None, (0.82, 0.1), opt="ldog", seconds=20.0),
        # Neither a setting that is no default nor a method to tune is in it.
        made_up.record(0.99, opt="dog", changed={"reps_rel": 1e-6}, seed=100),
        *grid({0.01: 0.99}),
        # Reported seeds do not choose.
        trial(None, 0.99, opt="dog", seed=0),
        trial(None, 0.1, opt="ldog", seed=0),
    )
    chosen = portfolio_of(frame)
    assert chosen["members"] == ("ldog", "dog")
    assert chosen["setting"] == "k=2 opt=ldog"
    assert (chosen["tuning_runs"], chosen["tuning_seconds"]) == (2, 30.0)


def test_of_equal_defaults_the_portfolio_takes_the_references_and_a_crash_is_charged(frame_of):
    ldog, dog = (trial(None, 0.8, opt=opt) for opt in ("ldog", "dog"))
    assert portfolio_of(frame_of(ldog, dog))["members"] == ("dog", "ldog")
    crash = made_up.failure(opt="ldog", seed=100, task="movies")
    frame = frame_of(crash, trial(None, 0.2, opt="dog", task="movies"))
    chosen = choices_of(frame, choice.BEST_OF_DEFAULTS, "movies")[choice.PORTFOLIO]
    assert (chosen["members"], chosen["tuning_runs"]) == (("dog", "ldog"), 2)


def test_one_method_alone_or_without_a_run_at_the_tuning_seed_is_no_portfolio(frame_of):
    frame = frame_of(trial(None, 0.8, opt="dog"), trial(None, 0.9, opt="ldog", seed=0))
    assert portfolio_of(frame) is None


def test_a_sweep_reports_no_setting_for_a_portfolio_that_its_methods_do_not_have(frame_of):
    runs = [trial(None, 0.8, opt=opt) for opt in ("dog", "ldog")]
    chosen = choice.settings_to_report(frame_of(*runs), [run["run_id"] for run in runs])
    assert {optimizer: settings for (_, optimizer), settings in chosen.items()} == {
        "dog": [{}], "ldog": [{}],
    }  # fmt: skip


def test_the_papers_other_rule_is_the_best_mean_score_and_shown_where_it_differs(frame_of):
    chosen = choices_of(frame_of(*three_tasks()), task="a")
    assert chosen["model-tuned"]["setting"] == "lr=0.1"
    assert chosen["model-tuned (mean)"]["setting"] == "lr=1"
    assert chosen["model-tuned (mean)"]["tuning_runs"] == 2
    assert list(chosen) == choice.ROWS


def test_without_dog_at_the_tuning_seed_there_is_no_model_tuned_row(frame_of):
    frame = frame_of(trial(None, 0.8, opt="dog", seed=0), *grid({0.01: 0.7, 0.1: 0.8}))
    assert list(choices_of(frame)) == ["default", "instance-tuned"]


def test_ties_go_to_the_smaller_rate(frame_of):
    frame = frame_of(trial(None, 0.8, opt="dog"), *grid({1.0: 0.9, 0.1: 0.9, 0.01: 0.7}))
    assert [choices_of(frame)[row]["setting"] for row in TUNED] == ["lr=0.1", "lr=0.1"]


@pytest.mark.parametrize(("best", "edge"), [(0.01, True), (0.1, False), (1.0, True)])
def test_the_lowest_and_the_highest_rate_tried_are_edges(frame_of, best, edge):
    scores = {rate: 0.9 if rate == best else 0.7 for rate in (0.01, 0.1, 1.0)}
    frame = frame_of(trial(None, 0.8, opt="dog"), *grid(scores))
    assert [choices_of(frame)[row]["edge"] for row in TUNED] == [edge, edge]
    assert choices_of(frame)["default"]["edge"] is False


def test_a_diverged_run_was_tried_and_a_crashed_one_was_not(frame_of):
    diverged = trial(1.0, 0.1, status="diverged")
    dog = trial(None, 0.8, opt="dog")
    frame = frame_of(dog, *grid({0.01: 0.7, 0.1: 0.9}), diverged)
    assert choices_of(frame)["instance-tuned"]["edge"] is False
    crashed = frame.copy()
    crashed.loc[crashed["learning_rate"].eq(1.0) & crashed["optimizer"].eq("sgd"), "status"] = (
        "failed"
    )
    chosen = choices_of(crashed)["instance-tuned"]
    assert chosen["edge"] is True
    assert chosen["tuning_runs"] == 3


def test_a_diverged_run_competes_with_its_majority_score(frame_of):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        trial(0.1, 0.1, status="diverged"),
        trial(1.0, 0.05),
    )
    assert choices_of(frame)["instance-tuned"]["setting"] == "lr=0.1"


def test_crashed_runs_alone_tune_nothing(frame_of):
    frame = frame_of(trial(None, 0.8, opt="dog"), *grid({0.01: None, 0.1: None}))
    assert list(choices_of(frame)) == ["default"]


def test_the_better_iterate_of_each_run_counts(frame_of):
    frame = frame_of(
        trial(None, 0.8, opt="dog"), *grid({0.01: (0.9, 0.1), 0.1: (0.2, 0.95), 1.0: (0.92, 0.92)})
    )
    assert choices_of(frame)["instance-tuned"]["setting"] == "lr=0.1"
    iterates = choice.iterate(frame[frame["optimizer"] == "sgd"]).tolist()
    assert iterates == ["last", "averaged", "averaged"]


def test_a_run_without_an_average_keeps_its_last_iterate(frame_of):
    frame = frame_of(trial(0.1, (0.8, 0.9))).assign(validation_averaged=np.nan)
    assert choice.iterate(frame).tolist() == ["last"]
    assert choice.validation_score(frame).tolist() == [0.8]


def test_where_lower_is_better_the_lowest_wins(frame_of):
    lower = {"higher_is_better": False}
    frame = frame_of(
        trial(None, 0.5, opt="dog", **lower),
        *grid({0.01: (0.6, 0.7), 0.1: (0.4, 0.3), 1.0: (0.9, 0.35)}, **lower),
    )
    for row in TUNED:
        assert choices_of(frame)[row]["setting"] == "lr=0.1"


def test_nothing_but_validation_columns_at_the_tuning_seed_decides(frame_of):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        *grid({0.01: 0.7, 0.1: 0.8, 1.0: 0.75}),
        trial(1.0, 0.99, seed=0),
    )
    poisoned = frame.copy()
    for name in [name for name in frame if name.startswith(("test_", "train_loss"))]:
        poisoned[name] = np.nan
    poisoned.loc[poisoned["learning_rate"] == 1.0, ["test_last", "test_averaged"]] = 1.0
    chosen = choices_of(poisoned)
    assert [chosen[row]["setting"] for row in TUNED] == ["lr=0.1", "lr=0.1"]
    assert choice.choose(poisoned) == choice.choose(frame)
    assert not [name for name in choice.READ if "test" in name]


def test_tuning_is_charged_what_it_cost_at_the_tuning_seed(frame_of):
    frame = frame_of(
        trial(None, 0.8, opt="dog"),
        *grid({0.01: 0.7, 0.1: 0.8, 1.0: 0.75}, seconds=20.0),
        trial(0.1, 0.8, seed=0, seconds=1000.0),
    )
    chosen = choices_of(frame)
    assert [chosen[row]["tuning_runs"] for row in TUNED] == [3, 3]
    assert [chosen[row]["tuning_seconds"] for row in TUNED] == [60.0, 60.0]


def test_only_settings_within_the_grid_s_keys_are_tuned(frame_of):
    other = made_up.record(0.99, seed=100, changed={"lr": 0.1, "weight_decay": 0.1})
    frame = frame_of(trial(None, 0.8, opt="dog"), *grid({0.01: 0.7, 0.1: 0.8}), other)
    chosen = choices_of(frame)["instance-tuned"]
    assert (chosen["setting"], chosen["tuning_runs"]) == ("lr=0.1", 2)


def test_a_default_that_was_never_run_is_still_named_with_no_overrides(frame_of):
    chosen = choices_of(frame_of(trial(0.1, 0.8)))["default"]
    assert (chosen["setting"], chosen["overrides"]) == ("", {})


@pytest.mark.parametrize("old", [{"task_version": 1}, {"protocol": ("lite", 1)}])
def test_only_the_newest_version_of_task_and_protocol_counts(frame_of, old):
    new = {"task_version": 2, "protocol": ("lite", 2)}
    made = [*grid({0.01: 0.9, 0.1: 0.1}, **{**new, **old}), *grid({0.01: 0.1, 0.1: 0.9}, **new)]
    frame = frame_of(*made, trial(0.1, 0.5, task="movies", protocol=("smoke", 1)))
    kept = choice.comparable(frame)
    assert kept["run_id"].nunique() == 3
    assert set(kept["task_version"][kept["task"] == "cifar"]) == {2}
    assert set(kept["protocol_version"][kept["protocol"] == "lite"]) == {2}
    assert choices_of(frame)["instance-tuned"]["setting"] == "lr=0.1"


def test_each_section_of_a_protocol_has_a_newest_version_of_its_own(frame_of):
    language = {"budget": "language"}
    newer = [
        trial(0.1, 0.5, task=task, protocol=("lite", 2), **language)
        for task in ("movies", "tweets")
    ]
    old = trial(0.01, 0.6, task="movies", protocol=("lite", 1), **language)
    other_section = trial(0.1, 0.7, task="cifar", protocol=("lite", 1))
    kept = choice.comparable(frame_of(*newer, old, other_section))
    assert sorted(kept["task"]) == ["cifar", "movies", "tweets"]
    assert [each.runs for each in choice.old_versions(frame_of(*newer, old, other_section))] == [1]


def test_runs_of_an_older_default_are_not_mixed_with_the_newer(frame_of):
    old, new = (made_up.record(score, seed=seed) for seed, score in ((0, 0.5), (1, 0.8)))
    new["settings"]["opt"]["lr"] = 0.02
    new["measured"]["started"] = "2025-02-01T00:00:00+00:00"
    frame = frame_of(old, new)
    assert choice.comparable(frame)["setting"].tolist() == ["lr=0.02"]
    assert [one.setting for one in choice.choose(frame)] == ["lr=0.02"]


def of_a_later_yaml(record, **said):
    """The record as of a month later, with what it says of its settings by the yaml of then."""
    record["measured"]["started"] = "2025-02-01T00:00:00+00:00"
    return record | said


def test_runs_of_the_same_settings_are_one_line_whatever_keys_the_grid_had_at_their_time(frame_of):
    later = {"grid": made_up.GRIDS["sgd"] | {"weight_decay": [0.0, 0.1]}}
    seen = [made_up.record(0.8, changed={"lr": 0.1}, seed=seed) for seed in (0, 1, 2)]
    tuned = [trial(None, 0.8, opt="dog"), *grid({0.01: 0.7, 0.1: 0.8}), *seen[:2]]
    frame = frame_of(*tuned, of_a_later_yaml(seen[2], **later))
    assert frame["setting"].nunique() == 4
    (problem,) = compare_problems(frame)
    cells = {cell.key: cell for cell in problem.cells}
    assert cells["sgd", "instance-tuned"].seeds == 3
    assert cells["sgd", "instance-tuned"].setting == "lr=0.1 weight_decay=0"


def test_a_run_made_before_its_settings_became_the_defaults_is_one_of_the_defaults(frame_of):
    runs = [made_up.record(0.8, changed={"lr": 0.1}, seed=seed) for seed in (0, 1)]
    frame = frame_of(runs[0], of_a_later_yaml(runs[1], opt_changed={}, opt_default=True))
    (problem,) = compare_problems(frame)
    assert [(cell.row, cell.seeds) for cell in problem.cells] == [("default", 2)]


def test_a_sweep_chooses_among_its_own_points(frame_of):
    # Somebody's committed rows have a better rate, and a better one still on other data.
    own = [trial(None, 0.8, opt="dog"), *grid({0.1: 0.7, 1.0: 0.75})]
    frame = frame_of(*own, *grid({0.01: 0.9}), *grid({0.03: 0.95}, data="other"))
    (problem,) = frame["problem_id"].unique()
    chosen = choice.settings_to_report(frame, [run["run_id"] for run in own])
    assert chosen[problem, "sgd"] == [{}, {"lr": 1.0}, {"lr": 1.0}]
    assert chosen[problem, "dog"] == [{}]


def test_settings_are_chosen_from_runs_of_the_same_data_alone(frame_of):
    dog = [trial(None, 0.8, opt="dog"), trial(None, 0.8, opt="dog", seed=0)]
    frame = frame_of(*dog, *grid({0.01: 0.7, 0.1: 0.8}), trial(1.0, 0.99, data="other"))
    for row in TUNED:
        assert choices_of(frame)[row]["setting"] == "lr=0.1"
