"""What is wrong with the packages of DoG's rivals, as they are (docs/rivals.md).

A test that fails after an update says that a fault is gone: its row, and perhaps the adapter, is to
be changed.
"""

import copy

import pytest
import torch
from dadaptation import DAdaptAdam, DAdaptSGD
from dowg import DoWG
from mechanic_pytorch import mechanize
from momo import Momo, MomoAdam
from parameterfree import COCOB
from problems import Problem, built, train
from prodigyopt import Prodigy
from pytorch_optimizer import AdamG
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from sps_safe import SPS_safe
from torch.utils._python_dispatch import TorchDispatchMode

MechanicSGD = mechanize(torch.optim.SGD, store_delta=True)
TAKE_LOSS = {Momo, MomoAdam, SPS_safe}


@pytest.fixture(autouse=True)
def _gradients():
    """Switch gradients on again: Mechanic leaves them off where its step fails."""
    yield
    torch.set_grad_enabled(True)


def trained(kind, steps=3, problem=None, **arguments):
    problem = problem or Problem(unused=False)
    optimizer = built(kind, problem, **arguments)
    train(problem, optimizer, range(8, 8 + steps), kind in TAKE_LOSS)
    return problem, optimizer


def resumed(kind, **arguments):
    """An optimizer that has loaded the state of another after three steps, and both."""
    problem, first = trained(kind, **arguments)
    second = built(kind, copy.deepcopy(problem), **arguments)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    return first, second


def groups(problem, *options):
    parameters = list(problem.parameters())
    return [
        {"params": part, **option}
        for part, option in zip((parameters[:1], parameters[1:]), options, strict=True)
    ]


@pytest.mark.parametrize("kind", [DoWG, Momo, SPS_safe])
def test_parameters_without_a_gradient_crash(kind):
    with pytest.raises((AttributeError, TypeError), match="NoneType"):
        trained(kind, problem=Problem())


def test_dowgopt_takes_no_closure():
    with pytest.raises(TypeError, match="positional argument"):
        trained(DoWG)[1].step(None)


def test_dowgopt_forgets_the_initial_weights_when_it_is_resumed():
    first, second = resumed(DoWG)
    assert 0 in first.state and 0 not in second.state
    problem = Problem(unused=False)
    assert set(first.state[0]) == {"x0"} == set(second.state[second.param_groups[0]["params"][0]])
    assert torch.equal(first.state[0]["x0"][0], problem.hidden)


@pytest.mark.parametrize("kind", [Momo, MomoAdam])
def test_momo_forgets_its_counters_when_it_is_resumed(kind):
    first, second = resumed(kind)
    assert (first._number_steps, second._number_steps) == (3, 0)
    assert first.loss_avg > 0 and not getattr(second, "loss_avg", 0)


def test_mechanic_cannot_step_when_it_is_resumed():
    _, second = resumed(MechanicSGD, lr=1.0)
    for p in second.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    with pytest.raises(KeyError):
        second.step()


def test_mechanic_calls_a_closure_without_gradients():
    problem, optimizer = trained(MechanicSGD, lr=1.0)
    with pytest.raises(RuntimeError, match="does not require grad"):
        optimizer.step(lambda: problem.backward(0))
    assert not torch.is_grad_enabled()


@pytest.mark.parametrize("kind", [DAdaptSGD, DAdaptAdam, Prodigy])
def test_groups_of_different_learning_rates_are_refused(kind):
    problem = Problem(unused=False)
    optimizer = kind(groups(problem, {"lr": 1.0}, {"lr": 0.5}))
    with pytest.raises(RuntimeError, match="different lr"):
        train(problem, optimizer, range(2))


@pytest.mark.parametrize("kind", [DAdaptSGD, SPS_safe])
def test_the_weight_decay_of_a_group_is_not_its_own(kind):
    ends = []
    for option in ({"weight_decay": 0.0}, {"weight_decay": 0.5}):
        problem = Problem(unused=False)
        optimizer = kind(groups(problem, {"weight_decay": 0.0}, option))
        train(problem, optimizer, range(8, 20), kind in TAKE_LOSS)
        ends.append(problem.weights())
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize("kind", [AdamG, DAdaptAdam, DAdaptSGD, AdamWScheduleFree, SGDScheduleFree])
def test_weight_decay_changes_the_gradients(kind):
    problem, optimizer = trained(kind, weight_decay=0.1)
    problem.backward(0)
    before = problem.head.grad.clone()
    optimizer.step()
    assert not torch.equal(before, problem.head.grad)


def test_dadaptation_divides_by_a_first_gradient_of_zero():
    problem = Problem(unused=False)
    for p in problem.parameters():
        p.grad = torch.zeros_like(p)
    with pytest.raises(ZeroDivisionError):
        DAdaptSGD(problem.parameters()).step()


class Reads(TorchDispatchMode):
    """Counts how often the host waits for a value of the device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [DAdaptAdam, DAdaptSGD, Prodigy])
def test_the_host_waits_for_the_device_twice_a_tensor(kind):
    problem, optimizer = trained(kind)
    with Reads() as reads:
        optimizer.step()
    assert reads.count == 2 * len(list(problem.parameters()))


@pytest.mark.parametrize(("beta1", "by_the_next"), [(0.0, True), (1e-9, False)])
def test_prodigy_without_momentum_steps_by_the_next_d(beta1, by_the_next):
    """By the paper the step is d_k · m_k / √v_k, also where m_k is d_k times the gradient."""
    problem = Problem(unused=False)
    optimizer = built(Prodigy, problem, betas=(beta1, 0.0), d0=1e-3)
    grew = 0
    for step in range(8, 20):
        before, d = problem.head.detach().clone(), optimizer.param_groups[0]["d"]
        train(problem, optimizer, [step])
        next_d = optimizer.param_groups[0]["d"]
        grew += next_d > d
        length = (before - problem.head).abs().median().item()
        assert length == pytest.approx(next_d if by_the_next else d, rel=0.01)
    assert grew


@pytest.mark.parametrize("kind", [AdamWScheduleFree, SGDScheduleFree])
def test_schedule_free_changes_the_weights_by_eval_and_train(kind):
    problem, optimizer = trained(kind)
    same = []
    for step in range(20):
        train(problem, optimizer, [step])
        before = problem.weights()
        optimizer.eval()
        optimizer.train()
        torch.testing.assert_close(before, problem.weights())
        same.append(all(map(torch.equal, before, problem.weights())))
    assert not all(same)


def test_schedule_free_adamw_overwrites_the_gradients():
    problem, optimizer = trained(AdamWScheduleFree)
    problem.backward(0)
    before = problem.head.grad.clone()
    optimizer.step()
    assert not torch.equal(before, problem.head.grad)


@pytest.mark.parametrize("kind", [AdamG, COCOB, Momo, MomoAdam, SPS_safe])
def test_a_copy_has_lost_its_arguments(kind):
    _, optimizer = trained(kind)
    copied = copy.deepcopy(optimizer)
    for p in copied.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    with pytest.raises(AttributeError, match="has no attribute"):
        copied.step(**({"loss": torch.ones(())} if kind in TAKE_LOSS else {}))
