"""optimizer.eval() and train(): averages in place of the weights, and the weights back."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import state_dict as dcp_state

from dog import DoG, LDoG, PolynomialDecay

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)


def optimizer_of(model, batch_norm="copy", **options):
    averaging = PolynomialDecay(model=model, batch_norm=batch_norm)
    return DoG(model.parameters(), averaging=averaging, **{"reps_rel": 1e-2, **options})


def batch(t, dtype=torch.float32):
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(t)).to(dtype)


def train(model, optimizer, steps=range(5)):
    for t in steps:
        optimizer.zero_grad()
        (model(batch(t, next(model.parameters()).dtype)) - 1).pow(2).mean().backward()
        optimizer.step()


def bits(model):
    return copy.deepcopy(model.state_dict())


def assert_equal(a, b):
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_same_runs(model, optimizer, other, other_optimizer):
    assert_equal(bits(model), bits(other))
    assert optimizer.telemetry() == other_optimizer.telemetry()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert_equal(optimizer.state[p], other_optimizer.state[q])


def saved(*content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@DTYPES
@pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])
@pytest.mark.parametrize("kind", [DoG, LDoG])
def test_eval_puts_averages_in_place_and_train_the_weights_back(kind, dtype, implementation):
    model, untouched = network(dtype), network(dtype)
    options = {"reps_rel": 1e-2, "implementation": implementation}
    optimizer = kind(model.parameters(), averaging=PolynomialDecay(), **options)
    straight = kind(untouched.parameters(), averaging=PolynomialDecay(), **options)
    for t in range(6):
        train(model, optimizer, range(t, t + 1))
        before = bits(model)
        for _ in range(2):  # a second time does nothing
            optimizer.eval()
            averages = [optimizer.state[p]["average"].to(dtype) for p in model.parameters()]
            assert all(map(torch.equal, model.parameters(), averages))
        assert t == 0 or not torch.equal(model[0].weight, before["0.weight"])
        for _ in range(2):
            optimizer.train()
            assert_equal(bits(model), before)
    train(untouched, straight, range(6))
    assert_same_runs(model, optimizer, untouched, straight)
    assert optimizer.state_dict().keys() == straight.state_dict().keys()


def test_without_averaging_the_modes_change_nothing():
    model = network()
    optimizer = DoG(model.parameters())
    train(model, optimizer)
    before = bits(model)
    optimizer.eval()
    assert_equal(bits(model), before)
    train(model, optimizer)  # there is no mode in which a step would be refused
    optimizer.train()


@pytest.mark.parametrize("first", ["model", "optimizer"])
@pytest.mark.parametrize("batch_norm", ["copy", "paper", "recompute"])
@DTYPES
def test_what_is_saved_in_eval_mode_goes_on_bit_for_bit(dtype, batch_norm, first):
    for k in range(4):
        whole, part, again = network(dtype), network(dtype), network(dtype)
        straight, stopped = optimizer_of(whole, batch_norm), optimizer_of(part, batch_norm)
        train(whole, straight, range(6))
        train(part, stopped, range(k))
        stopped.eval([batch(50, dtype)])
        weights, state = saved(part.state_dict(), stopped.state_dict())
        resumed = optimizer_of(again, batch_norm)
        loads = [(again, weights), (resumed, state)]
        for loaded, content in loads if first == "model" else loads[::-1]:
            loaded.load_state_dict(content)
        assert_equal(bits(again), bits(part))  # evaluation goes on with the averages
        with pytest.raises(RuntimeError, match=r"first call train\(\)"):
            resumed.step()
        resumed.train()
        train(again, resumed, range(k, 6))
        assert_same_runs(again, resumed, whole, straight)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_state_loads_in_eval_mode(mode):
    whole, part, again = network(), network(), network()
    straight, stopped = optimizer_of(whole, "paper"), optimizer_of(part, "paper")
    train(whole, straight, range(6))
    train(part, stopped, range(3))
    getattr(stopped, mode)()
    resumed = optimizer_of(again, "paper")
    train(again, resumed, range(20, 22))  # something else before
    resumed.eval()
    again.load_state_dict(part.state_dict())
    resumed.load_state_dict(saved(stopped.state_dict())[0])
    resumed.train()
    train(again, resumed, range(3, 6))
    assert_same_runs(again, resumed, whole, straight)


def test_training_state_has_the_same_keys_before_and_after_an_evaluation():
    model = network()
    optimizer = optimizer_of(model, "paper")
    train(model, optimizer)

    def keys():
        state = optimizer.state_dict()
        return [sorted(part) for part in (*state["state"].values(), *state["param_groups"])]

    before = keys()
    assert before[0] == ["average", "scalars", "x0"]
    optimizer.eval()
    assert before != keys()
    optimizer.train()
    assert before == keys()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copy_made_in_eval_mode_is_in_eval_mode(copied):
    model, whole = network(), network()
    optimizer, straight = optimizer_of(model), optimizer_of(whole)
    train(whole, straight)
    train(model, optimizer, range(3))
    optimizer.eval()
    other, other_optimizer = copied((model, optimizer))
    assert_equal(bits(other), bits(model))
    other_optimizer.train()
    train(other, other_optimizer, range(3, 5))
    assert_equal(bits(other), bits(whole))


def test_recompute_needs_batches_and_takes_them():
    model = network()
    optimizer = optimizer_of(model, "recompute")
    train(model, optimizer)
    before = bits(model)
    with pytest.raises(ValueError, match=r"eval\(batches\)"):
        optimizer.eval()
    optimizer.eval([batch(50)])
    torch.testing.assert_close(model[1].running_mean, model[0](batch(50)).mean(0))
    optimizer.train()
    assert_equal(bits(model), before)


def test_eval_that_fails_leaves_the_weights_and_train_mode():
    model = network()
    optimizer = optimizer_of(model, "recompute")
    train(model, optimizer)
    before = bits(model)

    def broken():
        yield batch(0)
        raise KeyError

    with pytest.raises(KeyError):
        optimizer.eval(broken())
    assert_equal(bits(model), before)
    train(model, optimizer)


def test_state_of_eval_mode_is_refused_where_other_buffers_were_averaged():
    model = network()
    optimizer = optimizer_of(model, "paper")
    train(model, optimizer)
    optimizer.eval()
    with pytest.raises(ValueError, match="batch_norm"):
        optimizer_of(model, "copy").load_state_dict(optimizer.state_dict())


def test_distributed_checkpoint_of_eval_mode_is_not_read_in_train_mode(tmp_path):
    """It reads what it finds a place for, so the training weights would be missing in silence."""
    model, again = network(), network()
    optimizer, resumed = optimizer_of(model), optimizer_of(again)
    train(model, optimizer, range(3))
    optimizer.eval()
    weights, state = dcp_state.get_state_dict(model, optimizer)
    checkpoint = torch.distributed.checkpoint
    checkpoint.save({"m": weights, "o": state}, checkpoint_id=tmp_path)
    content = dict(zip("mo", dcp_state.get_state_dict(again, resumed), strict=True))
    with pytest.raises((RuntimeError, checkpoint.CheckpointException), match="average"):
        checkpoint.load(content, checkpoint_id=tmp_path)
    resumed.eval()  # now there is a place for them
    content = dict(zip("mo", dcp_state.get_state_dict(again, resumed), strict=True))
    checkpoint.load(content, checkpoint_id=tmp_path)
    dcp_state.set_state_dict(
        again, resumed, model_state_dict=content["m"], optim_state_dict=content["o"]
    )
    for m, o in ((model, optimizer), (again, resumed)):
        o.train()
        train(m, o, range(3, 6))
    assert_same_runs(model, optimizer, again, resumed)
