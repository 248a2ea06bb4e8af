"""model.lora: LoRA's matrices and the head are trained, and nothing else is."""

import sys

import pytest
import torch
from conftest import QUIET, only_record, stop_at

from runner import config
from runner.errors import Stopped
from runner.run import build_task, run
from tasks.errors import UserError
from tasks.task import to_device

NETWORKS = ["minilm", "roberta_base", "t5_base"]


def made_up(*words, task="movies", model="minilm"):
    return config.load([f"task={task}", f"model={model}", *QUIET, "opt=dog", *words])


def base(network):
    """Return copies of what is pretrained, under the names that it has without LoRA."""
    return {
        name.replace(".base_layer", ""): p.detach().clone()
        for name, p in network.base_model.named_parameters()
        if "lora_" not in name
    }


@pytest.mark.parametrize("model", NETWORKS)
def test_base_weights_are_the_pretrained_ones_and_do_not_move(model):
    plain, with_lora = made_up(model=model), made_up("model.lora=4", model=model)
    task = build_task(with_lora)
    torch.manual_seed(0)
    pretrained = base(build_task(plain).network())
    torch.manual_seed(0)
    network = task.network()
    task.set_training(network)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.Adam(trained.values(), lr=0.01)
    inputs, targets = to_device(task.batch("train", torch.arange(16)), torch.device("cpu"))
    for _ in range(3):
        optimizer.zero_grad()
        task.loss(task.forward(network, inputs), targets).backward()
        optimizer.step()
    after = base(network)
    assert after.keys() == pretrained.keys()
    assert all(torch.equal(pretrained[name], after[name]) for name in pretrained)
    assert not any(torch.equal(p, before[name]) for name, p in trained.items())
    of_base = {id(p) for p in network.base_model.parameters()}
    head = [p for p in network.parameters() if id(p) not in of_base]
    assert all(p.requires_grad for p in head) and bool(head) == (model != "t5_base")


def test_run_learns_and_its_record_tells_how_many_weights_were_trained(tmp_path):
    words = ["model.lora=4", "opt=adam", "opt.lr=0.003", "train.steps=150", f"runs_dir={tmp_path}"]
    record = run(made_up(*words, "train.eval_every=1000"))
    assert record.results.test.last > 0.8 and record.settings["model"]["lora"] == 4
    assert record.results.facts == {"trained_weights": 3394}


def test_run_goes_on_bit_for_bit_and_keeps_averages(tmp_path, monkeypatch):
    results = []
    for part, stop in (("whole", None), ("stopped", 7)):
        words = ["model.lora=4", "train.steps=12", "train.eval_every=4", "opt.reps_rel=0.01"]
        loaded = made_up(*words, "log_every=1", f"runs_dir={tmp_path / part}")
        if stop:
            with monkeypatch.context() as patch, pytest.raises(Stopped):
                stop_at(patch, stop)
                run(loaded)
        assert run(loaded).results.test.averaged is not None
        results.append(only_record(tmp_path / part))
    assert results[0] == results[1]


@pytest.mark.parametrize("model", NETWORKS)
def test_null_is_the_run_of_before_and_a_rank_is_another(model):
    plain, null, ranked = (
        made_up(*words, model=model).spec for words in ([], ["model.lora=null"], ["model.lora=8"])
    )
    assert plain.run_id == null.run_id != ranked.run_id
    assert "lora" not in plain.scientific["model"] and ranked.scientific["model"]["lora"] == 8


def test_rank_is_refused_where_nothing_would_have_it(monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"there is no key model\.lora"):
        made_up("model.lora=8", task="cifar", model="squeezenet")
    with pytest.raises(UserError, match=r"model\.lora=0: must be above 0"):
        made_up("model.lora=0")
    for task, model, word in (
        ("probe_newsgroups", "minilm", "model.lora=8"),
        ("cifar", "squeezenet", "+model.lora=8"),  # which no yaml of an image's network has
        ("logistic_wine", "own", "+model.lora=8"),
    ):
        with pytest.raises(UserError, match=rf"model\.lora=8 is for .*task={task} trains none"):
            build_task(made_up(word, task=task, model=model))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"model\.lora=8 needs the package peft: pip install"):
        run(made_up("model.lora=8", f"runs_dir={tmp_path}"))
    assert not any(tmp_path.rglob("record.json"))
