"""What the paper's theory says, seen in runs of the one training loop."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import LONG_ONLY
from omegaconf import OmegaConf

from runner import config
from runner.run import build_task, run, show
from runner.run_record import RunRecord
from tasks.errors import UserError

LOGISTIC = ["logistic_breast_cancer", "logistic_digits", "logistic_wine"]
R_EPSILON = 0.1  # of the divergence example


def composed(task, *overrides):
    quiet = ["wandb.mode=disabled", "progress=false", "protocol=smoke"]
    return config.load([f"task={task}", *quiet, *overrides])


def trained(task, folder, *overrides):
    """Return a run's record and the lines of its metrics.jsonl."""
    record = run(composed(task, f"runs_dir={folder}", *overrides)).plain()
    lines = (folder / task / record["run_id"] / "metrics.jsonl").read_text().splitlines()
    return record, [json.loads(line) for line in lines]


def test_dog_leaves_every_bound_on_the_divergence_example(tmp_path):
    record, lines = trained("divergence_example", tmp_path, "opt=dog")
    steps, facts = record["results"]["steps"], record["results"]["facts"]
    seen = {line["step"]: line["rbar"] for line in lines if "rbar" in line}
    # At step t, counted from 1, r̄ is that of the t − 1 steps before.
    expected = [R_EPSILON * math.sqrt(max(t, 2) / 2) for t in seen]
    np.testing.assert_allclose(list(seen.values()), expected, rtol=1e-7)
    assert facts["rbar"] == pytest.approx(R_EPSILON * math.sqrt((steps + 1) / 2), rel=1e-7)
    assert facts["rbar"] > facts["3 d_0"] == pytest.approx(3)
    assert record["results"]["test"]["last"] == record["results"]["test"]["majority"]
    shown = show(RunRecord.of(record))
    assert f"3 d_0 = 3, rbar = {facts['rbar']:.4g}" in shown and "start" in shown


def test_tdog_stays_within_three_times_the_distance_on_the_divergence_example(tmp_path):
    record, lines = trained("divergence_example", tmp_path, "opt=tdog", "log_every=1")
    distances = [line["rbar"] for line in lines if "rbar" in line]
    assert len(distances) == 2000 and max(distances) <= record["results"]["facts"]["3 d_0"]
    assert 0 < record["results"]["facts"]["distance"] <= record["results"]["facts"]["rbar"]


def test_subgradient_of_the_divergence_example_is_that_of_the_smallest_active_coordinate():
    task = build_task(composed("divergence_example", "task.dimension=4", "train.steps=4"))
    cases = {
        (3, 3, 1, -5): (3, [1, 0, 0, 0]),  # two are equal: the first
        (-1, 3, 2, 3): (3, [0, 1, 0, 0]),
        (-8, 2, -4, 4): (4, [-0.5, 0, 0, 0]),  # 8 / √4 is 4: the first and the last are equal
        (-2, -6, -6, -1): (3, [0, -0.5, 0, 0]),
    }
    for x, (value, gradient) in cases.items():
        found, subgradient = task.objective(torch.tensor(x, dtype=torch.float64))
        assert found == value and subgradient.tolist() == gradient
    assert task.objective(task.optimum())[0] == task.minimum == 0


@pytest.mark.parametrize("protocol", ["smoke", "lite", "paper"])
def test_start_of_the_divergence_example_fits_dogs_initial_step_length(protocol):
    loaded = composed("divergence_example", f"protocol={protocol}")
    task = build_task(loaded)
    assert loaded.spec.opt.reps_rel * (1 + task.start.norm().item()) == pytest.approx(
        task.r_epsilon
    )
    assert task.distance == pytest.approx(10 * task.r_epsilon)
    # Long enough for r̄ to leave 3 d_0, short enough for the instance to hold.
    assert math.sqrt((loaded.spec.train.steps + 1) / 2) > 30
    assert loaded.spec.train.steps <= loaded.spec.task.dimension


@pytest.mark.parametrize("name", LOGISTIC)
def test_minimum_of_logistic_regression_is_one(name):
    task = build_task(composed(name))
    optimum = task.optimum()
    value, gradient = task.objective(optimum)
    assert value == task.minimum
    # f is l2-strongly convex: f(x) − f* ≤ ‖∇f(x)‖² / (2 l2).
    assert gradient.norm() ** 2 / (2 * task.l2) < 1e-10
    generator = torch.Generator().manual_seed(0)
    for length in (1e-3, 1.0):
        away = torch.randn(len(optimum), generator=generator, dtype=torch.float64)
        assert task.objective(optimum + length * away / away.norm())[0] > task.minimum


def test_minimum_of_logistic_regression_is_that_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    task = build_task(composed("logistic_wine"))
    examples = task.splits["train"]
    features = np.hstack([examples.inputs, np.ones((len(examples), 1))])  # biases are weights, too
    theirs = LogisticRegression(
        C=1 / (len(examples) * task.l2), fit_intercept=False, tol=1e-10, max_iter=10_000
    ).fit(features, examples.labels)
    weights = np.concatenate([theirs.coef_[:, :-1].ravel(), theirs.coef_[:, -1]])
    assert task.objective(torch.from_numpy(weights))[0] == pytest.approx(task.minimum, abs=1e-9)
    np.testing.assert_allclose(weights, task.optimum().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "name",  # of 2 classes, of 3 and of 10
    [
        *("logistic_breast_cancer", "logistic_wine"),
        pytest.param("logistic_digits", marks=LONG_ONLY),
    ],
)
def test_dog_comes_close_to_the_minimum_and_its_distance_to_that_of_the_optimum(name, tmp_path):
    record, _ = trained(name, tmp_path, "opt=dog", "train.steps=1000")
    scores, facts = record["results"]["test"], record["results"]["facts"]
    assert record["settings"]["opt"]["reps_rel"] == 1e-4  # absolute, since x_0 = 0
    assert -1e-9 < scores["averaged"] < scores["majority"] / 100  # of where it began
    assert 0.5 < facts["rbar"] / facts["d_0"] < 1.5
    assert record["results"]["validation"] == scores  # both are f on the training examples


@pytest.mark.parametrize(
    "optimizer", [["opt=ldog"], ["opt=tdog"], ["opt=sgd", "opt.lr=0.3"], ["opt=adam", "opt.lr=0.1"]]
)
def test_no_optimizer_gets_below_the_minimum(optimizer, tmp_path):
    record, _ = trained("logistic_wine", tmp_path, *optimizer, "train.steps=500")
    scores = record["results"]["test"]
    for iterate in ("last", "averaged"):
        assert -1e-9 < scores[iterate] < scores["majority"]
    if optimizer == ["opt=tdog"]:
        facts = record["results"]["facts"]
        assert facts["rbar"] <= facts["3 d_0"]


def test_diverged_run_counts_as_one_that_never_left(tmp_path):
    record, _ = trained("logistic_wine", tmp_path, "opt=sgd", "opt.lr=1e8", "opt.schedule=constant")
    assert record["status"] == "diverged" and "facts" not in record["results"]
    assert record["results"]["test"]["last"] == pytest.approx(math.log(3), abs=0.03)


@pytest.mark.parametrize(
    ("task", "override", "message"),
    [
        ("divergence_example", "train.steps=10001", "at least train.steps=10001"),
        ("logistic_wine", "task.l2=1e-300", "raise task.l2"),
        ("logistic_wine", "task.l2=0", "must be above 0"),
        ("divergence_example", "task.prescribes.batch_size=2", "not to be changed"),
        ("divergence_example", "model=minilm", "model=minilm is for language tasks"),
    ],
)
def test_impossible_problems_are_refused(task, override, message):
    with pytest.raises(UserError, match=message) as refusal:
        build_task(composed(task, override))
    assert "\n" not in str(refusal.value)


def test_theory_sweep_has_all_theory_tasks():
    sweep = OmegaConf.load(config.CONFIGS / "sweep" / "theory.yaml")
    swept = {task for part in sweep.parts for task in part.tasks}
    convex = {task for task in config.options("task") if task.startswith("logistic_")}
    assert swept == {"divergence_example", *convex}
