"""A sweep goes part by part: each is tuned, reported, shown and packed before the next begins."""

import contextlib
import sys

import made_up_records as made_up
import pytest
from omegaconf import OmegaConf

from runner.archive import open_archive
from sweeps import cost, driver, executors, plan
from sweeps.worker import Outcome
from tasks.errors import UserError

RATES = [0.01, 0.1]
WINE = {
    "tasks": ["logistic_wine"],
    "optimizers": ["dog", "sgd"],
    "seeds": [0],
    "overrides": ["protocol=smoke"],
    "grids": {"sgd": {"lr": RATES}},
}
CANCER = {**WINE, "tasks": ["logistic_breast_cancer"]}
# The loss on validation: each task has a best rate of its own.
LOSSES = {("logistic_wine", 0.1): 0.1, ("logistic_breast_cancer", 0.01): 0.1}


class MadeUp:
    """An executor whose runs end at once; what the run of a label does instead, `instead` says."""

    slots = 2

    def __init__(self, instead):
        self.instead, self.waiting, self.ran = instead, [], []

    def submit(self, group):
        self.waiting += group

    def cancel(self):
        self.waiting.clear()

    def results(self):
        while self.waiting:
            run = self.waiting.pop(0)
            self.ran.append(run.label)
            status = self.instead.get(run.label, "finished")
            if status == "cancelled":
                self.cancel()
                status = "stopped"
            if status == "finished":
                made_up.write(run.folder.path.parents[1], self.record(run))
            yield Outcome(run, status, 1.0, 0.5)

    def record(self, run):
        made, opt = made_up.record_of(run, 1.0), run.config.spec.opt
        loss = LOSSES.get((run.task, opt.plain().get("lr")), 0.5)
        made["results"]["validation"] |= {"last": loss, "averaged": loss}
        changed = {} if opt.name == "dog" else {"lr": opt.plain()["lr"]}
        label, grid = made_up.LABELS[opt.name], made_up.GRIDS[opt.name]
        made |= {"opt_changed": changed, "opt_default": not changed}
        return made | {"opt_label": label, "grid": grid}


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    """A function that gives a sweep's command; its status, its executor, and what it says."""
    monkeypatch.setattr(executors, "cancelled_by_signals", contextlib.nullcontext)
    monkeypatch.setattr(driver.report, "write_results", lambda *_: "the tables")
    monkeypatch.setattr(cost, "COMMITTED", tmp_path / "committed")

    def give(*parts, instead=None):
        executor = MadeUp(instead or {})
        monkeypatch.setattr(executors, "start", lambda *_: contextlib.nullcontext(executor))
        OmegaConf.save(OmegaConf.create({"parts": [*parts]}), tmp_path / "small.yaml")
        monkeypatch.setattr(sys, "argv", ["sweep.py", *words(tmp_path), "jobs=2"])
        capsys.readouterr()
        try:
            status = driver.main()
        except UserError as error:
            status = str(error)
        return status, executor.ran, capsys.readouterr()

    return give


def words(folder):
    return [f"{folder}/small.yaml", "wandb.mode=disabled", f"runs_dir={folder}/runs"]


def loaded(folder):
    name, *overrides = words(folder)
    return plan.load(name, overrides)


def label(task, opt, seed, rate=None):
    """The label of a run."""
    name = f"logistic_{task} {opt}" + ("" if rate is None else f" lr={rate:g}")
    return f"{name} seed {seed}"


def tuning(task):
    return [label(task, "dog", 100), *(label(task, "sgd", 100, rate) for rate in RATES)]


def reporting(task, rate):
    return [label(task, "dog", 0), label(task, "sgd", 0), label(task, "sgd", 0, rate)]


def test_each_part_is_tuned_reported_shown_and_packed_before_the_next(sweep, tmp_path):
    status, ran, said = sweep(WINE, CANCER)
    assert status == 0
    parts = [*tuning("wine"), *reporting("wine", 0.1)]
    parts += [*tuning("breast_cancer"), *reporting("breast_cancer", 0.01)]
    assert ran[: len(parts)] == parts
    # What is chosen over both tasks comes last: SGD's rate of the other one.
    assert sorted(ran[len(parts) :]) == [
        label("breast_cancer", "sgd", 0, 0.1), label("wine", "sgd", 0, 0.01)
    ]  # fmt: skip
    table = said.err.partition("part 1 of 2 is done")[2]
    assert "**logistic_wine" in table and "| SGD " in table and "instance-tuned" in table
    assert said.err.index("new runs: ") < said.err.index("part 1 of 2 is done")
    assert "**logistic_breast_cancer" not in table
    assert said.out.splitlines() == ["the tables"]
    planned = loaded(tmp_path)
    chosen = cost.chosen(planned, cost.known(tmp_path / "runs"))
    every = [*planned.tuning(), *planned.reporting(chosen)]
    assert sorted(run.label for run in every) == sorted(ran)
    status, ran, said = sweep(WINE, CANCER)
    assert (status, ran) == (0, []) and "is done" not in said.err
    assert "export" not in said.err


def test_sweep_says_how_many_runs_were_done_without_the_model_that_is_asked_for(sweep, tmp_path):
    lost = label("wine", "sgd", 100, 0.01)
    _, ran, _ = sweep(WINE, instead={lost: "failed"})
    exporting = {**WINE, "overrides": [*WINE["overrides"], "export=averaged"]}
    _, _, said = sweep(exporting)
    number = len(ran) - 1
    assert f"export: {number} of the runs done have not kept their weights" in said.err
    kept, *_ = [run.folder.model("averaged") for run in loaded(tmp_path).tuning() if run.done]
    kept.mkdir()
    assert f"export: {number} of the runs" in sweep(exporting)[2].err  # one more is done, one kept


def test_sweep_that_is_stopped_has_whole_parts_in_the_archive(sweep, tmp_path):
    status, ran, _ = sweep(WINE, CANCER, instead={label("breast_cancer", "dog", 100): "stopped"})
    assert "give the same command again" in status
    packed = [record.run_id for record in open_archive(tmp_path / "archive")]
    assert len(packed) == len(ran) - 1 and sum("wine" in name for name in packed) == 6
    planned, frame = loaded(tmp_path), cost.known(tmp_path / "runs")
    expected = cost.estimate_cost(planned, cost.chosen(planned, frame), frame, "a cpu", 2)
    # Of the second task DoG's two runs, SGD's default and its best rate are to do for certain.
    assert expected.in_the_end[0] == 4


@pytest.mark.parametrize("at", [label("wine", "dog", 100), label("wine", "sgd", 0)])
def test_cancelled_sweep_begins_no_further_part_and_calls_none_done(sweep, at):
    status, ran, said = sweep(WINE, CANCER, instead={at: "cancelled"})
    assert "give the same command again" in status and ran[-1] == at
    assert "is done" not in said.err


def test_problem_that_a_later_part_tunes_too_is_chosen_when_that_is_done(sweep):
    later = {**WINE, "grids": {"sgd": {"lr": [0.03]}}, "optimizers": ["sgd"]}
    _, ran, _ = sweep({**WINE, "seeds": [0]}, later)
    default, chosen = label("wine", "sgd", 0), label("wine", "sgd", 0, 0.1)
    assert ran == [*tuning("wine"), label("wine", "dog", 0), default,
                   label("wine", "sgd", 100, 0.03), chosen]  # fmt: skip


def test_run_that_fails_is_not_tried_again_by_a_later_part(sweep):
    gone = label("wine", "dog", 100)
    status, ran, said = sweep(WINE, {**WINE, "optimizers": ["dog"], "grids": {}}, CANCER,
                              instead={gone: "failed"})  # fmt: skip
    assert status == 1 and ran.count(gone) == 1 and said.err.count(f"failed: {gone}") == 1


def test_gpus_do_not_count_where_the_yaml_says_device_cpu(sweep, monkeypatch):
    chosen, of_options = [], driver.executor_of
    monkeypatch.setattr(
        driver, "executor_of", lambda *given: chosen.append(of_options(*given)) or chosen[-1]
    )
    on_cpu = {**WINE, "overrides": [*WINE["overrides"], "device=cpu"]}
    for parts in ([on_cpu], [on_cpu, CANCER]):
        sweep(*parts)
    assert [executor.gpus for executor in chosen] == [0, None]


def test_sweep_of_which_nothing_could_run_says_so_and_asks_for_no_tables(sweep, monkeypatch):
    """Tables of nothing are an error, which hid the runs that failed."""
    monkeypatch.setattr(driver.report, "write_results", pytest.fail)
    instead = {label("wine", "dog", seed): "failed" for seed in (100, 0)}
    status, ran, said = sweep({**WINE, "optimizers": ["dog"], "grids": {}}, instead=instead)
    assert status == 1 and said.out == ""
    assert said.err.count("failed: ") == len(ran) == 2
