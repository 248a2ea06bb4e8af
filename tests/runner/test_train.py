"""The training loop: what it asks of the runs that it trains, and when."""

from types import SimpleNamespace

import pytest
import torch
from conftest import QUIET

from runner import config, train
from runner.batches import TrainBatches, iterate_batches
from runner.run import build_task
from runner.signals import StopRequest
from runner.specs import Execution
from tasks.specs import TrainSpec

CPU = torch.device("cpu")


class Recorder:
    """Runs that train nothing and write down what the loop asks for, as (what, step)."""

    seeds = (0, 7)

    def __init__(self, step=0, over_after=None, stop_after=None):
        self.step, self.over_after, self.stop_after = step, over_after, stop_after
        self.stop, self.calls = StopRequest(), []

    @property
    def is_over(self):
        return self.over_after is not None and self.step >= self.over_after

    def compute_gradients(self, batches):
        assert len(batches) == len(self.seeds)
        self.calls.append(("gradients", self.step))

    def update(self):
        self.step += 1
        if self.step == self.stop_after:
            self.stop.signum = 15

    def apportion_time(self, trained):
        pass

    def __getattr__(self, name):
        return lambda: self.calls.append((name, self.step))

    def steps_of(self, name):
        return [step for called, step in self.calls if called == name]

    def train(self, steps, **budget):
        examples = SimpleNamespace(splits={"train": range(40)}, batch=lambda *_: torch.zeros(2))
        execution = Execution.model_construct(workers=0, log_every=6, checkpoint_seconds=1e9)
        known = {"batch_size": 2, "eval_every": 8, "checkpoint": None}
        budget = TrainSpec.model_construct(steps=steps, **{**known, **budget})
        self.job = SimpleNamespace(spec=SimpleNamespace(train=budget), execution=execution)
        self.task, self.device = examples, CPU
        train.train(self, self.stop)
        return self


def test_logs_looks_scores_and_saves_at_their_steps():
    runs = Recorder().train(25)
    assert runs.steps_of("gradients") == list(range(25))
    assert runs.steps_of("log") == [1, 2, 3, 5, 6, 7, 12, 18, 24, 25]
    assert runs.steps_of("look") == [10, 20, 25]
    assert runs.steps_of("validate") == [8, 16, 24]
    assert runs.steps_of("save") == [25]


@pytest.mark.parametrize(("checkpoint", "scored"), [(None, [8]), ("best", [8, 16])])
def test_last_step_is_scored_only_where_an_earlier_one_may_be_better(checkpoint, scored):
    assert Recorder().train(16, checkpoint=checkpoint).steps_of("validate") == scored


def test_signal_ends_the_loop_after_a_step_that_is_saved():
    runs = Recorder(step=3, stop_after=8).train(25)
    assert runs.steps_of("gradients") == [3, 4, 5, 6, 7]
    assert runs.calls[-2:] == [("validate", 8), ("save", 8)]


@pytest.mark.parametrize(("step", "trained"), [(0, 8), (8, 0)])
def test_runs_that_are_over_are_neither_trained_nor_scored(step, trained):
    runs = Recorder(step=step, over_after=8).train(25)
    assert len(runs.steps_of("gradients")) == trained
    assert not runs.steps_of("validate")


def test_each_seed_has_the_batches_that_it_has_alone(tmp_path):
    task = build_task(config.load([*QUIET, "task=cifar", f"runs_dir={tmp_path}"]))
    together = list(iterate_batches(TrainBatches(task, 8, [1, 0]), range(2, 5), workers=0))
    for place, seed in enumerate([1, 0]):
        alone = iterate_batches(TrainBatches(task, 8, [seed]), range(2, 5), workers=0)
        for batches, (batch,) in zip(together, alone, strict=True):
            assert all(map(torch.equal, batches[place], batch))
