"""State: saved, loaded, copied, moved to other forms, without losing a bit."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import state_dict as dcp_state

from dog import DoG, LDoG, PolynomialDecay, TDoG

FORMS = {
    "DoG": lambda p, **o: DoG(p, **o),
    "L-DoG": lambda p, **o: LDoG(p, **o),
    "T-DoG": lambda p, **o: TDoG(p, steps=20, **o),
    "global": lambda p, **o: DoG(p, scope="global", **o),
}
EVERY = pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2)).to(dtype)


def train(model, optimizer, steps):
    for t in steps:
        optimizer.zero_grad()
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(t))
        (model(x.to(next(model.parameters()).dtype)) - 1).pow(2).mean().backward()
        optimizer.step()


def groups(model):
    """Two groups, in an order that is not the model's."""
    layers = list(model)
    return [
        {"params": [*layers[2].parameters()], "weight_decay": 0.1},
        {"params": [*layers[0].parameters(), *layers[1].parameters()], "weight_decay": 0.1},
    ]


def options():
    return {"reps_rel": 1e-2, "averaging": PolynomialDecay()}


def assert_same(model, optimizer, other_model, other_optimizer):
    for p, q in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(p, q)
        a, b = optimizer.state[p], other_optimizer.state[q]
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert optimizer.telemetry() == other_optimizer.telemetry()


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@EVERY
@DTYPES
@pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])
def test_save_and_load_at_every_step_goes_on_bit_for_bit(make, dtype, implementation):
    for k in range(6):
        whole, parts = network(dtype), network(dtype)
        chosen = options() | {"implementation": implementation}
        straight = make(groups(whole), **chosen)
        train(whole, straight, range(6))
        first = make(groups(parts), **chosen)
        train(parts, first, range(k))
        content = saved({"model": parts.state_dict(), "optimizer": first.state_dict()})
        again = network(dtype)
        with torch.no_grad():
            for p in again.parameters():
                p.fill_(0.5)
        again.load_state_dict(content["model"])
        second = make(groups(again), **chosen)
        second.load_state_dict(content["optimizer"])
        train(again, second, range(k, 6))
        assert_same(whole, straight, again, second)


@EVERY
@pytest.mark.parametrize("flatten", [False, True])
def test_distributed_checkpoint_without_processes_goes_on_bit_for_bit(make, flatten, tmp_path):
    whole, parts = network(), network()
    straight = make(groups(whole), **options())
    train(whole, straight, range(6))
    first = make(groups(parts), **options())
    train(parts, first, range(3))
    chosen = dcp_state.StateDictOptions(flatten_optimizer_state_dict=flatten)
    weights, state = dcp_state.get_state_dict(parts, first, options=chosen)
    torch.distributed.checkpoint.save({"m": weights, "o": state}, checkpoint_id=tmp_path)

    again = network()
    second = make(groups(again), **options())
    weights, state = dcp_state.get_state_dict(again, second, options=chosen)
    content = {"m": weights, "o": state}
    torch.distributed.checkpoint.load(content, checkpoint_id=tmp_path)
    dcp_state.set_state_dict(
        again,
        second,
        model_state_dict=content["m"],
        optim_state_dict=content["o"],
        options=chosen,
    )
    train(again, second, range(3, 6))
    assert_same(whole, straight, again, second)


@EVERY
@pytest.mark.parametrize("carry", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_go_on_with_all_options(make, carry):
    model = network(torch.bfloat16)
    optimizer = make(groups(model), max_grad_norm=0.5, implementation="foreach", **options())
    train(model, optimizer, range(3))
    twin_model, twin = carry((model, optimizer))
    assert (twin.max_grad_norm, twin.implementation) == (0.5, "foreach")
    assert twin.scope == optimizer.scope
    train(model, optimizer, range(3, 6))
    train(twin_model, twin, range(3, 6))
    assert_same(model, optimizer, twin_model, twin)
    assert next(twin_model.parameters()) is not next(model.parameters())


@EVERY
def test_late_param_group_is_saved_and_loaded(make):
    runs = []
    for reload in (False, True):
        model = network()
        optimizer = make(groups(model)[1:], **options())
        train(model, optimizer, range(3))
        optimizer.add_param_group(groups(model)[0])
        train(model, optimizer, range(3, 5))
        if reload:
            content = saved(optimizer.state_dict())
            optimizer = make(groups(model)[1:], **options())
            optimizer.add_param_group(groups(model)[0])
            optimizer.load_state_dict(content)
        train(model, optimizer, range(5, 8))
        runs += [model, optimizer]
    assert_same(*runs)


def test_saved_start_is_in_the_parameters_own_form():
    model = network(torch.bfloat16).float()  # kept in 16 bits, LayerNorm's ones as one element
    optimizer = DoG(model.parameters())
    train(model, optimizer, range(2))
    kept = [optimizer.state[p]["x0"] for p in model.parameters()]
    assert {x0.dtype for x0 in kept} == {torch.float32, torch.bfloat16}
    for p, entry in zip(model.parameters(), optimizer.state_dict()["state"].values(), strict=True):
        assert (entry["x0"].dtype, entry["x0"].shape) == (p.dtype, p.shape)
        assert torch.equal(entry["x0"], optimizer.state[p]["x0"].to(p.dtype))


def test_state_of_other_parameters_is_refused():
    model = network()
    optimizer = DoG(model.parameters())
    train(model, optimizer, range(2))
    other = nn.ParameterList([torch.ones(3, 3) for _ in range(6)])
    with pytest.raises(ValueError, match="other parameters"):
        DoG(other.parameters()).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize(("saves", "loads"), [(DoG, LDoG), (LDoG, DoG)])
def test_state_of_another_scope_is_refused(saves, loads):
    model = network()
    optimizer = saves(model.parameters())
    train(model, optimizer, range(2))
    with pytest.raises(ValueError, match="scope"):
        loads(model.parameters()).load_state_dict(optimizer.state_dict())


def test_state_of_another_optimizer_is_refused():
    model = network()
    adam = torch.optim.Adam(model.parameters())
    train(model, adam, range(2))
    with pytest.raises(ValueError, match="not DoG's"):
        DoG(model.parameters()).load_state_dict(adam.state_dict())


def test_refused_state_leaves_the_optimizer_as_it_was():
    model, other = network(), network()
    optimizer, twin = DoG(model.parameters(), **options()), DoG(other.parameters(), **options())
    adam = torch.optim.Adam(network().parameters())
    train(model, optimizer, range(2))
    train(other, twin, range(2))
    with pytest.raises(ValueError):
        optimizer.load_state_dict(adam.state_dict() | {"state": {0: {"step": 1}}})
    train(model, optimizer, range(2, 4))
    train(other, twin, range(2, 4))
    assert_same(model, optimizer, other, twin)


def test_averages_that_a_state_lacks_start_from_the_weights():
    model = network()
    plain = DoG(model.parameters())
    train(model, plain, range(3))
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay())
    optimizer.load_state_dict(plain.state_dict())
    for p in model.parameters():
        assert torch.equal(optimizer.state[p]["average"], p)
    train(model, optimizer, range(3, 5))


def test_averages_that_are_not_wanted_are_not_loaded():
    model = network()
    averaging = DoG(model.parameters(), averaging=PolynomialDecay())
    train(model, averaging, range(3))
    optimizer = DoG(model.parameters())
    optimizer.load_state_dict(averaging.state_dict())
    assert all("average" not in optimizer.state[p] for p in model.parameters())
