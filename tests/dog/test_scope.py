"""What shares a step size, and what the step size says."""

import copy
import warnings

import pytest
import torch
from torch import nn

from dog import DoG, LDoG


def tensors(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(n, generator=generator).double()) for n in sizes]


def train(optimizer, parameters, steps=8):
    for t in range(steps):
        for p in parameters:
            p.grad = torch.tanh(p.detach() - t)
        optimizer.step()


def decayed(parameters):
    return [{"params": parameters[:1]}, {"params": parameters[1:], "weight_decay": 0.0}]


def test_global_scope_gives_all_groups_the_step_size_of_one():
    ours, theirs = tensors(3, 4, 5), tensors(3, 4, 5)
    together = DoG(decayed(ours), scope="global", reps_rel=1e-2)
    train(together, ours)
    train(DoG(theirs, reps_rel=1e-2), theirs)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    assert len(together.telemetry()) == 1


def test_global_scope_keeps_each_groups_weight_decay():
    parameters = tensors(3, 4)
    groups = [{"params": parameters[:1], "weight_decay": 0.5}, {"params": parameters[1:]}]
    optimizer = DoG(groups, scope="global", reps_rel=1e-2)
    before = copy.deepcopy(parameters)
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    eta = optimizer.telemetry()[0]["eta"]
    for p, x, decay in zip(parameters, before, (0.5, 0.0), strict=True):
        torch.testing.assert_close(p, x - eta * (1 + decay * x))


def test_tensor_scope_is_ldog():
    ours, theirs = tensors(3, 4), tensors(3, 4)
    train(DoG(ours, scope="tensor"), ours)
    train(LDoG(theirs), theirs)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["reps_rel", "lr", "eps"])
def test_global_scope_refuses_groups_that_need_two_step_sizes(name):
    parameters = tensors(3, 4)
    groups = [{"params": parameters[:1], name: 0.1}, {"params": parameters[1:]}]
    optimizer = DoG(groups, scope="global")
    parameters[0].grad = torch.ones_like(parameters[0])
    with pytest.raises(ValueError, match=name):
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.1, 0.0])
def test_groups_that_split_dog_are_warned_of(weight_decay):
    parameters = tensors(3, 4)
    groups = [{"params": parameters[:1], "weight_decay": weight_decay}, {"params": parameters[1:]}]
    with pytest.warns(UserWarning, match='scope="global"'):
        DoG(groups)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chosen in ({"scope": "group"}, {"scope": "global"}, {"scope": "tensor"}):
            DoG(groups, **chosen)
        LDoG(groups)
        DoG([{"params": parameters}, {"params": [], "weight_decay": 0.1}])
        DoG([groups[0], {**groups[1], "reps_rel": 1e-2}])  # these cannot share one


def test_schedule_that_changes_the_step_size_is_told_of_once():
    (p,) = tensors(3)
    optimizer = DoG([p], reps_rel=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: max(0.0, 1 - t / 10))

    def told():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(optimizer, [p], 1)
            schedule.step()
        return [str(warning.message) for warning in caught]

    assert told() == []  # as with a constant schedule, lr is still 1
    (sentence,) = told()
    assert "lr from 1 to 0.9" in sentence and "constant schedule" in sentence
    assert [told() for _ in range(9)] == [[]] * 9 and optimizer.telemetry()[0]["eta"] == 0


@pytest.mark.parametrize("options", [{}, {"init_eta": 0.1}], ids=str)
def test_group_with_lr_zero_stays_and_the_others_train(options):
    (p, q), (alone,) = tensors(3, 4), tensors(3)
    still = q.detach().clone()
    optimizer = DoG([{"params": [p]}, {"params": [q], "lr": 0.0}], **options)
    train(optimizer, [p, q])
    train(DoG([alone], **options), [alone])
    assert torch.equal(p, alone) and torch.equal(q, still)


def test_unknown_scope_and_implementation_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="group, global, tensor"):
        DoG(tensors(2), scope="layer")
    with pytest.raises(ValueError, match="auto, reference, foreach, fused"):
        DoG(tensors(2), implementation="fast")


def test_weights_edited_between_steps_are_measured_anew():
    (p,) = tensors(4)
    x0 = p.detach().clone()
    optimizer = DoG([p], reps_rel=1e-2)
    train(optimizer, [p], 3)
    with torch.no_grad():
        p.add_(5.0)
    distance = (p.detach() - x0).norm().item()
    train(optimizer, [p], 1)
    assert optimizer.telemetry()[0]["distance"] == pytest.approx(distance)


def test_refresh_measures_what_was_edited_behind_torchs_back():
    (p,) = tensors(4)
    x0 = p.detach().clone()
    optimizer = DoG([p], reps_rel=1e-2)
    train(optimizer, [p], 3)
    p.data.add_(5.0)
    optimizer.refresh()
    distance = (p.detach() - x0).norm().item()
    train(optimizer, [p], 1)
    assert optimizer.telemetry()[0]["distance"] == pytest.approx(distance)


def test_one_param_group_over_two_types_of_tensor_has_one_step_size():
    wide, narrow = tensors(6)[0], nn.Parameter(torch.linspace(-1, 1, 5))
    x0 = [wide.detach().clone(), narrow.detach().clone()]
    optimizer = DoG([wide, narrow], reps_rel=1e-2)
    train(optimizer, [wide, narrow], 2)
    numbers = optimizer.telemetry()[0]
    assert numbers["rbar"] >= 1e-2 * (1 + sum(x.double().square().sum() for x in x0).sqrt())
    assert len(optimizer.telemetry()) == 1


def quiet(optimizer, p, gradients):
    for g in gradients:
        p.grad = torch.full_like(p, g)
        optimizer.step()


def test_no_trouble_in_a_run_that_goes_well():
    (p,) = tensors(4)
    optimizer = DoG([p], reps_rel=1e-2)
    assert optimizer.diagnose() == []
    train(optimizer, [p], 400)
    assert optimizer.diagnose() == []


def test_trouble_is_a_step_size_above_1000_early():
    (p,) = tensors(4)
    optimizer = DoG([p], reps_rel=1.0)
    quiet(optimizer, p, [1e-4] * 3)
    assert len(optimizer.diagnose()) == 1 and "divide reps_rel by 100" in optimizer.diagnose()[0]
    quiet(optimizer, p, [1.0] * 400)  # it stays known later
    assert "divide reps_rel by 100" in optimizer.diagnose()[0]


def test_trouble_is_a_step_size_that_does_not_rise():
    p = nn.Parameter(torch.ones(4))
    optimizer = DoG([p], reps_rel=1e-9)  # float32 weights do not see such steps
    quiet(optimizer, p, [1.0, -1.0] * 149)
    assert optimizer.diagnose() == []
    quiet(optimizer, p, [1.0, -1.0] * 2)
    assert len(optimizer.diagnose()) == 1 and "multiply reps_rel by 100" in optimizer.diagnose()[0]


@pytest.mark.parametrize("scope", ["group", "tensor"])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_first_batch_without_loss_is_no_trouble(weight_decay, scope):
    (p,) = tensors(4)
    optimizer = DoG([p], reps_rel=0.1, weight_decay=weight_decay, scope=scope)
    quiet(optimizer, p, [0.0])
    train(optimizer, [p], 400)
    assert optimizer.diagnose() == []


def test_only_gradients_of_zero_are_no_sign_of_a_step_too_small_or_too_large():
    p = nn.Parameter(torch.full((4,), 1e3))
    optimizer = DoG([p], reps_rel=1e-3)
    quiet(optimizer, p, [0.0] * 400)
    assert optimizer.diagnose() == []


def test_trouble_names_the_option_that_set_the_first_step():
    (p,) = tensors(4)
    optimizer = DoG([p], init_eta=1e4)
    quiet(optimizer, p, [1e-4] * 3)
    assert "divide init_eta by 100" in optimizer.diagnose()[0]


def test_init_eta_that_makes_the_first_step_too_small_is_trouble():
    p, good = tensors(4, 4)
    optimizer = DoG([p, nn.Parameter(torch.ones(4))], init_eta=1e-9)
    quiet(optimizer, p, [0.0])  # leaves the first step to the next
    quiet(optimizer, p, [1.0, -1.0] * 150)
    assert optimizer.telemetry()[0]["r_epsilon"] == pytest.approx(2e-9)
    assert len(optimizer.diagnose()) == 1 and "multiply init_eta by 100" in optimizer.diagnose()[0]
    optimizer = DoG([good], init_eta=1e-2)
    train(optimizer, [good], 400)
    assert optimizer.diagnose() == []


def test_trouble_is_steps_that_were_skipped():
    (p,) = tensors(4)
    optimizer = DoG([p], reps_rel=1e-2)
    quiet(optimizer, p, [1.0, float("nan"), 1.0])
    assert len(optimizer.diagnose()) == 1 and "1 steps were skipped" in optimizer.diagnose()[0]
