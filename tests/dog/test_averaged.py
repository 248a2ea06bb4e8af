"""optimizer.averaged(): averages in place of the weights for a while, and back to the last bit."""

import copy
import math

import pytest
import torch
from torch import nn

from dog import DoG, LDoG, PolynomialDecay, PolynomialDecayAverager, recomputed_batch_norm

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def batch(t):
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(t))


def train(model, optimizer, steps=range(5), after=lambda: None):
    for t in steps:
        optimizer.zero_grad()
        (model(batch(t).to(next(model.parameters()).dtype)) - 1).pow(2).mean().backward()
        optimizer.step()
        after()


def bits(model):
    return copy.deepcopy(model.state_dict())


def assert_equal(a, b):
    assert all(torch.equal(a[name], b[name]) for name in a)


@DTYPES
@pytest.mark.parametrize("optimizer_class", [DoG, LDoG])
def test_swap_in_and_out_is_bit_exact(dtype, optimizer_class):
    model = network().to(dtype)
    optimizer = optimizer_class(model.parameters(), averaging=PolynomialDecay(), reps_rel=1e-2)
    train(model, optimizer)
    before = bits(model)
    with optimizer.averaged():
        for p in model.parameters():
            assert torch.equal(p, optimizer.state[p]["average"].to(dtype))
        assert not torch.equal(model[0].weight, before["0.weight"])
    assert_equal(bits(model), before)


def test_swap_does_not_change_what_training_does():
    models = network(), network()
    for i, model in enumerate(models):
        optimizer = DoG(model.parameters(), averaging=PolynomialDecay(), reps_rel=1e-2)
        for t in range(6):
            train(model, optimizer, range(t, t + 1))
            if i:
                with optimizer.averaged():
                    pass
    assert_equal(bits(models[0]), bits(models[1]))


def test_weights_come_back_after_an_exception():
    model = network()
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay(), reps_rel=1e-2)
    train(model, optimizer)
    before = bits(model)
    with pytest.raises(KeyError), optimizer.averaged():
        raise KeyError
    assert_equal(bits(model), before)
    train(model, optimizer)


def test_average_is_that_of_the_averager():
    model = network()
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay(gamma=8), reps_rel=1e-2)
    averager = PolynomialDecayAverager(model, gamma=8)
    train(model, optimizer, range(20), averager.step)
    with optimizer.averaged():
        for p, q in zip(model.parameters(), averager.averaged_model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_only_trainable_parameters_are_averaged_and_tied_ones_once():
    embedding, head, frozen = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False), nn.Linear(3, 3)
    head.weight = embedding.weight
    frozen.requires_grad_(False)
    model = nn.Sequential(embedding, frozen, head)
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay(), reps_rel=1e-2)
    optimizer.zero_grad()
    model(torch.arange(5)).pow(2).mean().backward()
    optimizer.step()
    assert [p.shape for p in optimizer.state] == [(5, 3)]
    with optimizer.averaged():
        assert head.weight is embedding.weight


def test_before_the_first_step_the_averages_are_the_weights():
    model = network()
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay())
    before = bits(model)
    with optimizer.averaged():
        assert_equal(bits(model), before)


def test_batch_norm_paper_has_the_average_of_the_statistics():
    model = network()
    averaging = PolynomialDecay(model=model, batch_norm="paper")
    optimizer = DoG(model.parameters(), averaging=averaging, reps_rel=1e-2)
    averager = PolynomialDecayAverager(model)
    train(model, optimizer, range(8), averager.step)
    before = bits(model)
    with optimizer.averaged():
        for name, value in averager.averaged_model.named_buffers():
            torch.testing.assert_close(model.get_buffer(name), value)
    assert_equal(bits(model), before)


def test_averaged_statistics_are_saved_and_loaded():
    model, other = network(), network()
    runs = []
    for m in (model, other):
        averaging = PolynomialDecay(model=m, batch_norm="paper")
        runs.append(DoG(m.parameters(), averaging=averaging, reps_rel=1e-2))
    train(model, runs[0], range(4))
    other.load_state_dict(model.state_dict())
    runs[1].load_state_dict(copy.deepcopy(runs[0].state_dict()))
    for m, optimizer in ((model, runs[0]), (other, runs[1])):
        train(m, optimizer, range(4, 7))
    with runs[0].averaged(), runs[1].averaged():
        assert_equal(bits(model), bits(other))


def test_batch_norm_copy_has_the_statistics_of_the_model_in_training():
    model = network()
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay(), reps_rel=1e-2)
    train(model, optimizer)
    before = bits(model)
    with optimizer.averaged():
        assert_equal(dict(model.named_buffers()), {n: before[n] for n, _ in model.named_buffers()})


def test_batch_norm_recompute_has_the_statistics_of_the_averaged_weights():
    model = network()
    averaging = PolynomialDecay(model=model, batch_norm="recompute")
    optimizer = DoG(model.parameters(), averaging=averaging, reps_rel=1e-2)
    train(model, optimizer)
    before = bits(model)
    with optimizer.averaged([batch(50)]):
        expected = model[0](batch(50)).mean(0)
        torch.testing.assert_close(model[1].running_mean, expected)
    assert_equal(bits(model), before)
    assert model[1].momentum == 0.1 and model.training


def test_recomputed_statistics_go_away_after_an_exception():
    model = network()
    before = bits(model)
    with pytest.raises(KeyError), recomputed_batch_norm(model, [batch(0)]):
        assert not torch.equal(model[1].running_mean, before["1.running_mean"])
        raise KeyError
    assert_equal(bits(model), before)


def test_averager_can_copy_the_statistics():
    model = network()
    averager = PolynomialDecayAverager(model, batch_norm="copy")
    train(model, DoG(model.parameters()), after=averager.step)
    assert torch.equal(averager.averaged_model[1].running_mean, model[1].running_mean)


def test_averager_can_recompute_the_statistics():
    model = network()
    averager = PolynomialDecayAverager(model, batch_norm="recompute")
    train(model, DoG(model.parameters()), after=averager.step)
    averager.recompute_batch_norm([batch(50)])
    expected = averager.averaged_model[0](batch(50)).mean(0)
    torch.testing.assert_close(averager.averaged_model[1].running_mean, expected)


def test_averager_of_16_bit_weights_goes_on_moving():
    """At t = 3000 a bfloat16 average would take no more than a third of a percent in."""
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    averager = PolynomialDecayAverager(model)
    exact = 0.0
    for t in range(1, 4001):
        value = torch.tensor([[1.0 if t <= 2500 else 1.01]], dtype=torch.bfloat16)
        with torch.no_grad():
            model.weight.copy_(value)
        averager.step()
        exact += 9 / (t + 8) * (value.item() - exact)
    kept = averager.state_dict()["wide"]["weight"]
    assert kept.item() == pytest.approx(exact, rel=1e-5)
    assert averager.averaged_model.weight.item() == torch.tensor(exact).bfloat16().item()


@pytest.mark.parametrize(
    ("misuse", "error", "words"),
    [
        (lambda o: o.averaged().__enter__(), RuntimeError, "averaging=PolynomialDecay"),
        (lambda o: PolynomialDecay(gamma=-1), ValueError, "gamma"),
        (lambda o: PolynomialDecay(batch_norm="mean"), ValueError, "paper, copy, recompute"),
        (lambda o: PolynomialDecay(batch_norm="paper"), ValueError, "needs model"),
        (lambda o: PolynomialDecayAverager(nn.Linear(1, 1), batch_norm="x"), ValueError, "paper"),
    ],
)
def test_misuse_is_refused_with_what_to_do(misuse, error, words):
    with pytest.raises(error, match=words):
        misuse(DoG(network().parameters()))


def test_step_and_second_swap_within_averaged_are_refused():
    model = network()
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay())
    train(model, optimizer)
    with optimizer.averaged():
        with pytest.raises(RuntimeError, match=r"first call train\(\)"):
            optimizer.step()
        with pytest.raises(RuntimeError, match="already"), optimizer.averaged():
            pass
    train(model, optimizer)


def test_recompute_needs_batches():
    model = network()
    averaging = PolynomialDecay(model=model, batch_norm="recompute")
    optimizer = DoG(model.parameters(), averaging=averaging)
    with pytest.raises(ValueError, match="batches"), optimizer.averaged():
        pass


def test_statistics_are_averaged_whatever_the_first_parameters_do():
    """The first group is never used, and the first layer is frozen on the way."""
    model, unused = network(), nn.Parameter(torch.ones(2))
    groups = [{"params": [unused]}, {"params": model.parameters()}]
    averaging = PolynomialDecay(model=model, batch_norm="paper")
    optimizer = LDoG(groups, averaging=averaging, reps_rel=1e-2)
    averager = PolynomialDecayAverager(model)
    train(model, optimizer, range(10), averager.step)
    model[0].requires_grad_(False)
    train(model, optimizer, range(10, 30), averager.step)
    with optimizer.averaged():
        expected = averager.averaged_model.state_dict()
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_step_without_any_gradient_leaves_the_averages():
    model = network()
    averaging = PolynomialDecay(model=model, batch_norm="paper")
    optimizer = DoG(model.parameters(), averaging=averaging, reps_rel=1e-2)
    train(model, optimizer)
    with optimizer.averaged():
        before = bits(model)
    optimizer.zero_grad()
    model(batch(9))  # its statistics have moved on
    optimizer.step()
    with optimizer.averaged():
        assert_equal({n: v for n, v in bits(model).items() if "num_batches" not in n}, before)


def test_statistics_of_16_bit_models_are_averaged_in_float32():
    model = network().to(torch.bfloat16)
    averaging = PolynomialDecay(model=model, batch_norm="paper")
    optimizer = DoG(model.parameters(), averaging=averaging)
    train(model, optimizer, range(1))
    assert {b.dtype for b in optimizer.param_groups[0]["averaged_buffers"]} == {torch.float32}


@pytest.mark.parametrize("batch_norm", ["paper", "copy"])
def test_loaded_state_has_averages_of_statistics_where_they_are_wanted(batch_norm):
    model = network()
    other = "copy" if batch_norm == "paper" else "paper"
    saves = DoG(model.parameters(), averaging=PolynomialDecay(model=model, batch_norm=other))
    train(model, saves)
    averaging = PolynomialDecay(model=model, batch_norm=batch_norm)
    loads = DoG(model.parameters(), averaging=averaging)
    loads.load_state_dict(saves.state_dict())
    assert ("averaged_buffers" in loads.param_groups[0]) == (batch_norm == "paper")
    before = bits(model)
    with loads.averaged():
        assert torch.equal(model[1].running_mean, before["1.running_mean"])
    train(model, loads)


@pytest.mark.parametrize("change", ["a layer is added", "a buffer changes shape"])
def test_statistics_are_averaged_anew_where_the_models_buffers_have_changed(change):
    model = network()
    model.register_buffer("memory", torch.ones(1))
    averaging = PolynomialDecay(model=model, batch_norm="paper")
    optimizer = DoG(model.parameters(), averaging=averaging)
    train(model, optimizer)
    if change == "a layer is added":
        model.append(nn.BatchNorm1d(2))
        optimizer.add_param_group({"params": [*model[-1].parameters()]})
    else:
        model.memory = torch.full((3,), 2.0)
    present = copy.deepcopy(dict(model.named_buffers()))
    with optimizer.averaged():
        assert_equal(dict(model.named_buffers()), present)
    train(model, optimizer)
    present = copy.deepcopy(dict(model.named_buffers()))
    with optimizer.averaged():
        assert not torch.equal(model[1].running_mean, present["1.running_mean"])
    assert_equal(dict(model.named_buffers()), present)


def test_buffers_that_do_not_change_keep_their_bits_and_infinities():
    model = network()
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    model.register_buffer("table", torch.randn(100))
    averaging = PolynomialDecay(model=model, batch_norm="paper")
    optimizer = DoG(model.parameters(), averaging=averaging, reps_rel=1e-2)
    train(model, optimizer, range(20))
    before = bits(model)
    with optimizer.averaged():
        assert torch.equal(model.mask, before["mask"])
        assert torch.equal(model.table, before["table"])


def test_recomputing_leaves_every_module_in_its_mode():
    model = network()
    model[1].eval()
    with recomputed_batch_norm(model, [batch(0)]):
        assert model.training and not model[1].training
    assert model.training and not model[1].training

    def broken():
        yield batch(0)
        raise KeyError

    model.eval()
    with pytest.raises(KeyError), recomputed_batch_norm(model, broken()):
        pass
    assert not any(module.training for module in model.modules())


def test_evaluation_in_inference_mode_right_after_loading_does_not_stop_training():
    model = network()
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay())
    train(model, optimizer)
    again = DoG(model.parameters(), averaging=PolynomialDecay())
    again.load_state_dict(optimizer.state_dict())
    with torch.inference_mode(), again.averaged():
        model(batch(0))
        again.telemetry()
    train(model, again)


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o.refresh(),
        lambda o: o.add_param_group({"params": [nn.Parameter(torch.ones(2))]}),
    ],
)
def test_what_would_be_undone_is_refused_within_averaged(change):
    model = network()
    optimizer = DoG(model.parameters(), averaging=PolynomialDecay())
    train(model, optimizer)
    with optimizer.averaged(), pytest.raises(RuntimeError, match=r"first call train\(\)"):
        change(optimizer)
    train(model, optimizer)
