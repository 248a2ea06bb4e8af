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


def test_distance_of_a_parameter_has_the_same_bits_whatever_lies_beside_it():
    torch.manual_seed(0)
    trained, other = nn.Parameter(torch.randn(999)), nn.Parameter(torch.zeros(5) * 1j)
    optimizer = DoG([trained, other], reps_rel=1e-2)
    gradient = torch.randn(999)
    trained.grad = gradient
    for _ in range(2):
        optimizer.step()  # measures one parameter, as the other has no gradient
    copied, twin = copy.deepcopy((optimizer, trained))
    twin.grad = gradient
    for each in (optimizer, copied):  # the copy measures both
        each.step()
    assert optimizer.telemetry() == copied.telemetry()


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


def test_ldog_state_with_equal_numbers_in_two_tensors_is_loaded():
    def build():
        return [nn.Parameter(torch.zeros(3)) for _ in range(2)]

    parameters = build()
    optimizer = LDoG(parameters)
    for _ in range(2):
        for p in parameters:
            p.grad = torch.ones(3)
        optimizer.step()
    LDoG(build()).load_state_dict(optimizer.state_dict())


def test_state_of_group_scope_is_refused_by_global_scope():
    model = network()
    optimizer = DoG(groups(model))
    train(model, optimizer, range(2))
    with pytest.raises(ValueError, match="scope='group'"):
        DoG(groups(model), scope="global").load_state_dict(optimizer.state_dict())


def test_state_of_another_number_of_parameters_is_refused():
    model = network()
    optimizer = DoG(model.parameters())
    with pytest.raises(ValueError, match="of \\[6\\] parameters"):
        DoG(groups(model)).load_state_dict(optimizer.state_dict())


def test_hooks_see_the_state_that_is_loaded():
    model = network()
    optimizer = DoG(model.parameters())
    train(model, optimizer, range(2))
    seen = []

    def shifted(optimizer, state_dict):
        state_dict["state"][0]["x0"] = state_dict["state"][0]["x0"] + 1
        return state_dict

    again = DoG(model.parameters())
    again.register_load_state_dict_pre_hook(shifted)
    again.register_load_state_dict_post_hook(lambda o: seen.append(len(o.state)))
    first = next(iter(model.parameters()))
    content = saved(optimizer.state_dict())
    before = content["state"][0]["x0"].clone()
    again.load_state_dict(content)
    assert seen == [6] and torch.equal(again.state[first]["x0"], before + 1)


@pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])
def test_parameter_of_another_shape_or_type_is_refused(implementation):
    for change in (lambda x: torch.randn(2000, 3), lambda x: x.bfloat16()):
        p = nn.Parameter(torch.randn(2, 3))
        optimizer = DoG([p], averaging=PolynomialDecay(), implementation=implementation)
        for _ in range(2):
            p.grad = torch.ones_like(p)
            optimizer.step()
        p.grad = None
        p.data = change(p.data)
        p.grad = torch.ones_like(p)
        with pytest.raises(RuntimeError, match="final shapes and types"):
            optimizer.step()


def test_removed_group_is_not_trained_any_more():
    model = network()
    optimizer = DoG(groups(model))
    train(model, optimizer, range(2))
    removed = optimizer.param_groups.pop()
    before = [p.detach().clone() for p in removed["params"]]
    train(model, optimizer, range(2, 4))
    assert all(torch.equal(p, x) for p, x in zip(removed["params"], before, strict=True))
