"""Any optimizer trains: without a learning rate, with a loss or a closure, with modes."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import QUIET, stop_at
from torch import nn
from torch.optim import Optimizer

from runner import config
from runner.errors import Stopped
from runner.optimizer import build_optimizer, step_sizes, summary
from runner.record import RunFolder
from runner.run import run
from runner.specs import OptimizerSpec
from runner.training_state import TrainingState
from sweeps.plan import PlannedRun, grouped
from sweeps.replicas import run_together
from tasks.errors import UserError

LOOP = {"schedule": "constant", "warmup": 0.0, "clip_norm": None, "grid": {}}


class Descent(Optimizer):
    """Gradient descent of a fixed step size that no param group has under the name lr."""

    def __init__(self, params, length=0.3):
        super().__init__(params, {"length": length})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(p.grad, alpha=group["length"])


class ByLoss(Descent):
    """Its step size is in proportion to the loss, as Polyak's is."""

    def step(self, loss):
        assert loss.dim() == 0 and not loss.requires_grad
        self.param_groups[0]["length"] = min(1.0, loss.item())
        super().step()


class ByClosure(Descent):
    """It computes the loss of a batch twice, the second time at other weights."""

    @torch.no_grad()
    def step(self, closure):
        first = closure()
        super().step()
        assert closure() < first


class Averages(Descent):
    """Schedule-free descent: it trains at y, and eval() puts x in y's place."""

    def __init__(self, params, length=0.3):
        super().__init__(params, length)
        self.param_groups[0]["training"] = False

    def train(self):
        self._switch(True, "y")

    def eval(self):
        self._switch(False, "x")

    @torch.no_grad()
    def _switch(self, training, name):
        if self.param_groups[0]["training"] != training:
            self.param_groups[0]["training"] = training
            for p, state in self.state.items():
                p.copy_(state[name] * (1 + 1e-7))  # no way back is exact

    @torch.no_grad()
    def step(self):
        assert self.param_groups[0]["training"], "step() in eval mode"
        super().step()
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            state["y"] = p.clone()
            state["x"] = torch.zeros_like(p)  # answers that are all alike


def spec_of(kind, **fields):
    target = f"{__name__}.{kind.__name__}"
    opt = {"_target_": target, "name": "sgd", "label": "New", **LOOP, **fields}
    return OptimizerSpec.parse(opt, "opt")


def config_of(folder, kind, *words, task="probe_newsgroups", **fields):
    words = [f"task={task}", *QUIET, f"runs_dir={folder}", "train.steps=40", *words]
    loaded = config.load(words)
    return replace(loaded, spec=loaded.spec.replaced(opt=spec_of(kind, **fields)))


def folder_of(loaded):
    return RunFolder(loaded.execution.runs, loaded.spec.task.name, loaded.spec.run_id)


def lines_of(loaded):
    return [json.loads(line) for line in folder_of(loaded).metrics.read_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "step"), [(Descent, "plain"), (ByLoss, "loss"), (ByClosure, "closure")]
)
def test_optimizer_without_a_learning_rate_learns_whatever_its_step_takes(tmp_path, kind, step):
    loaded = config_of(tmp_path, kind, "log_every=1", step=step)
    assert run(loaded).status == "finished"
    losses = [line["loss"] for line in lines_of(loaded) if "loss" in line]
    assert len(losses) == 40 and sum(losses[-5:]) < 0.95 * sum(losses[:5])


@pytest.mark.parametrize("fields", [{"schedule": "cosine"}, {"warmup": 0.1}])
def test_schedule_of_what_has_no_learning_rate_is_refused(tmp_path, fields):
    loaded = config_of(tmp_path, Descent, **fields)
    with pytest.raises(UserError, match="opt=sgd: its class has no learning rate"):
        run(loaded)
    assert not folder_of(loaded).path.exists()


def test_clipping_reaches_the_gradients_of_a_closure(tmp_path):
    results = [
        run(config_of(tmp_path, ByClosure, step="closure", clip_norm=norm)).results
        for norm in (None, 1e-3)
    ]
    assert results[1].train_loss > results[0].train_loss


def test_missing_package_says_how_to_get_it(tmp_path):
    loaded = config_of(tmp_path, Descent)
    opt = loaded.spec.opt.replaced(target="not_there.Optimizer")
    loaded = replace(loaded, spec=loaded.spec.replaced(opt=opt))
    with pytest.raises(
        UserError, match=r"opt=sgd: there is no not_there.Optimizer .*pip install .*\[rivals\]"
    ):
        run(loaded)


@pytest.mark.parametrize("name", ["adog", "adam_pp"])
def test_text_in_place_of_a_number_is_named(name, tmp_path):
    words = [f"opt={name}", "opt.reps_rel=auto", "task.synthetic=true", "wandb.mode=disabled"]
    with pytest.raises(UserError, match=f"^opt={name} cannot take opt.reps_rel=auto: "):
        run(config.load([*words, f"runs_dir={tmp_path}/runs"]))


def test_modes_must_be_declared(tmp_path):
    with pytest.raises(UserError, match="its yaml must say averages_itself"):
        run(config_of(tmp_path, Averages))
    with pytest.raises(UserError, match="needs a class with train"):
        run(config_of(tmp_path, Descent, averages_itself=True))


def test_optimizer_that_averages_itself_is_scored_in_eval_mode_alone(tmp_path):
    loaded = config_of(tmp_path, Averages, "train.eval_every=10", averages_itself=True)
    record = run(loaded)
    plain = config_of(tmp_path / "plain", Descent, "train.eval_every=10")
    # All answers of x are alike.
    scores = record.results.test
    assert scores.last < 0.15 < run(plain).results.test.last
    assert scores.averaged is None and record.results.validation.averaged is None
    assert record.validation_score == record.results.validation.last
    validated = [line for line in lines_of(loaded) if "validation_last" in line]
    assert len(validated) == 3 and not any("validation_averaged" in line for line in validated)


def test_evaluation_changes_no_bit_of_what_an_optimizer_with_modes_trains(tmp_path):
    losses = []
    for every in (5, 40):
        words = [f"train.eval_every={every}", "log_every=1"]
        loaded = config_of(tmp_path, Averages, *words, averages_itself=True)
        run(loaded)
        losses.append([line["loss"] for line in lines_of(loaded) if "loss" in line])
    assert losses[0] == losses[1]


def test_checkpoint_has_the_weights_in_training_of_an_optimizer_with_modes(tmp_path, monkeypatch):
    results = []
    for part, stop in (("whole", None), ("stopped", 7)):
        words = ["log_every=1", "train.eval_every=5"]
        loaded = config_of(tmp_path / part, Averages, *words, averages_itself=True)
        if stop:
            with monkeypatch.context() as patch, pytest.raises(Stopped):
                stop_at(patch, stop)
                run(loaded)
        results.append((run(loaded).results, lines_of(loaded)))
    assert results[0] == results[1]


def test_run_that_cannot_be_resumed_says_so_and_begins_anew(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    loaded = config_of(tmp_path / "stopped", Descent, "log_every=1", resumable=False)
    with monkeypatch.context() as patch, pytest.raises(Stopped, match="begins anew"):
        stop_at(patch, 7)
        run(loaded)
    assert not folder_of(loaded).checkpoint.exists() and lines_of(loaded)
    record = run(loaded)
    assert any("begins anew: opt=sgd" in line for line in caplog.messages)
    whole = config_of(tmp_path / "whole", Descent, "log_every=1", resumable=False)
    assert record.results == run(whole).results and lines_of(loaded) == lines_of(whole)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ByLoss, {"step": "loss"}),
        (ByClosure, {"step": "closure"}),
        (Averages, {"averages_itself": True}),
        (Descent, {"resumable": False}),
    ],
)
def test_runs_that_step_or_save_in_a_way_of_their_own_are_no_replicas(tmp_path, kind, fields):
    configs = [
        config_of(tmp_path, kind, length=length, **fields) for length in (0.01, 0.02, 0.03, 0.04)
    ]
    runs = [PlannedRun(each, "new", folder_of(each)) for each in configs]
    assert [len(group) for group in grouped(runs, slots=1)] == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="one of several replicas"):
        list(run_together(configs))


def test_step_size_is_the_learning_rate_times_what_the_yaml_names():
    class Factor(torch.optim.SGD):
        def __init__(self, params):
            super().__init__(params, lr=0.5)
            self.param_groups[0]["d"] = torch.tensor(0.25)

    optimizer = Factor(nn.Linear(2, 1).parameters())
    numbers = summary(step_sizes(optimizer, spec_of(Descent, step_size="d")))
    assert numbers == {"lr": 0.5, "eta": 0.125}


def test_factor_that_param_groups_do_not_have_is_refused():
    with pytest.raises(UserError, match="its param groups have no d"):
        build_optimizer(spec_of(Descent, step_size="d"), nn.Linear(2, 1))


def test_weights_return_to_training_whatever_happens_in_eval_mode():
    network = nn.Linear(2, 1)
    optimizer = Averages(network.parameters())
    optimizer.train()
    state = TrainingState(network, optimizer, None)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    before = network.weight.detach().clone()
    with pytest.raises(RuntimeError, match="broken"), state.in_eval_mode():
        assert not network.weight.any()
        raise RuntimeError("broken")
    assert torch.equal(network.weight, before) and optimizer.param_groups[0]["training"]
