"""The classes that configs/opt names, packages' and adapters, do what the runner needs."""

import io

import pytest
import torch
from dadaptation import DAdaptAdam, DAdaptSGD
from dowg import DoWG
from mechanic_pytorch import mechanize
from momo import Momo, MomoAdam
from parameterfree import COCOB
from problems import LATE, Problem, built, train
from prodigyopt import Prodigy
from pytorch_optimizer import AdamG
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from sps_safe import SPS_safe

from rivals.adamg import AdamGAdapter
from rivals.cocob import COCOBAdapter
from rivals.dadapt import DAdaptSGDAdapter
from rivals.dowg import DoWGAdapter
from rivals.mechanic import mechanic_adamw, mechanic_sgd
from rivals.momo import MomoAdamAdapter, MomoAdapter
from rivals.sps import SPSSafeAdapter
from runner.schedule import factor
from runner.specs import OptimizerSpec

# Each adapter, the class that it adapts, and arguments with which the problem is learned.
ADAPTERS = {
    AdamGAdapter: (AdamG, {}),
    COCOBAdapter: (COCOB, {"weight_decay": 0.01}),
    DAdaptSGDAdapter: (DAdaptSGD, {"d0": 1e-3}),
    DoWGAdapter: (DoWG, {}),
    mechanic_adamw: (mechanize(torch.optim.AdamW, store_delta=True), {"lr": 1.0}),
    mechanic_sgd: (mechanize(torch.optim.SGD, store_delta=True), {"lr": 1.0}),
    MomoAdamAdapter: (MomoAdam, {"weight_decay": 0.01}),
    MomoAdapter: (Momo, {"weight_decay": 0.01, "use_fstar": True}),
    SPSSafeAdapter: (SPS_safe, {"weight_decay": 0.01}),
}
AS_THEY_ARE = {
    AdamWScheduleFree: {"lr": 0.01},
    DAdaptAdam: {"d0": 1e-3},
    Prodigy: {"d0": 1e-3},
    SGDScheduleFree: {"lr": 0.1},
}
ALL = {kind: arguments for kind, (_, arguments) in ADAPTERS.items()} | AS_THEY_ARE
TAKE_LOSS = {Momo, MomoAdam, SPS_safe, MomoAdapter, MomoAdamAdapter, SPSSafeAdapter}
WITH_TELEMETRY = [kind for kind in ALL if hasattr(kind, "telemetry")]
pytestmark = pytest.mark.filterwarnings("ignore:More than one param group")  # of momo-opt


@pytest.mark.parametrize("kind", ALL)
def test_parameters_without_a_gradient_are_left_as_they_are(kind):
    problem, alone = Problem(), Problem(unused=False)
    start = problem.late.detach().clone()
    optimizer = built(kind, problem, **ALL[kind])
    train(problem, optimizer, range(LATE), kind in TAKE_LOSS)
    assert torch.equal(problem.late, start)
    train(problem, optimizer, range(LATE, 12), kind in TAKE_LOSS)
    assert problem.unused.tolist() == [1, 1] and not torch.equal(problem.late, start)

    train(alone, built(kind, alone, **ALL[kind]), range(12), kind in TAKE_LOSS)
    assert all(map(torch.equal, problem.weights(), alone.weights()))


# They divide by the norm of nothing, or take its root.
WITHOUT = {DAdaptSGDAdapter, mechanic_adamw, mechanic_sgd}


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in WITHOUT])
def test_a_step_without_any_gradient_changes_nothing(kind):
    problem = Problem()
    optimizer = built(kind, problem, **ALL[kind])
    losses = train(problem, optimizer, range(5), kind in TAKE_LOSS)
    before = problem.weights()
    problem.zero_grad()
    optimizer.step(**({"loss": losses[-1]} if kind in TAKE_LOSS else {}))
    assert all(map(torch.equal, before, problem.weights()))


@pytest.mark.parametrize("kind", ALL)
def test_two_param_groups_step_as_one_does(kind):
    ends = []
    for groups in (1, 2):
        problem = Problem()
        optimizer = built(kind, problem, groups, **ALL[kind])
        losses = train(problem, optimizer, range(80), kind in TAKE_LOSS)
        ends.append(torch.stack(losses[-8:]).mean())
    assert ends[0] < 0.95 * torch.stack(losses[:8]).mean()
    torch.testing.assert_close(ends[0], ends[1], rtol=0.05, atol=0)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("done", [1, LATE, 6])
def test_a_saved_state_goes_on_with_the_same_bits(kind, done):
    problem, resumed = Problem(), Problem()
    optimizer = built(kind, problem, groups=2, **ALL[kind])
    train(problem, optimizer, range(done), kind in TAKE_LOSS)
    file = io.BytesIO()
    torch.save([problem.state_dict(), optimizer.state_dict()], file)
    train(problem, optimizer, range(done, 12), kind in TAKE_LOSS)

    weights, state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    resumed.load_state_dict(weights)
    again = built(kind, resumed, groups=2, **ALL[kind])
    again.load_state_dict(state)
    train(resumed, again, range(done, 12), kind in TAKE_LOSS)
    assert all(map(torch.equal, problem.weights(), resumed.weights()))
    if kind in WITH_TELEMETRY:
        assert again.telemetry() == optimizer.telemetry()


class NothingMissing(Problem):
    """The problem without what packages crash on."""

    def __init__(self):
        super().__init__(unused=False)

    def backward(self, step):
        return super().backward(step + 8)


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_steps_as_its_package_does(kind):
    package, arguments = ADAPTERS[kind]
    adapted, original = NothingMissing(), NothingMissing()
    train(adapted, built(kind, adapted, **arguments), range(30), kind in TAKE_LOSS)
    train(original, built(package, original, **arguments), range(30), kind in TAKE_LOSS)
    assert all(map(torch.equal, adapted.weights(), original.weights()))


def norm(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).norm()


def difference(first, second):
    return [a - b for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("kind", [DAdaptSGDAdapter, DoWGAdapter, SPSSafeAdapter])
def test_telemetry_of_sgd_is_the_step_over_the_gradient(kind):
    problem = NothingMissing()
    optimizer = built(kind, problem, **({"d0": 1e-3} if kind is DAdaptSGDAdapter else {}))
    for step in range(20):
        before = problem.weights()
        train(problem, optimizer, [step], kind in TAKE_LOSS)
        taken = norm(difference(problem.weights(), before))
        gradient = norm([p.grad for p in problem.parameters()])
        (numbers,) = optimizer.telemetry()
        assert numbers["eta"] == pytest.approx((taken / gradient).item(), rel=0.02)


@pytest.mark.parametrize("kind", [COCOBAdapter, mechanic_sgd])
def test_telemetry_is_the_distance_over_the_sum_of_gradients(kind):
    problem = NothingMissing()
    start, total = problem.weights(), [0, 0, 0]
    optimizer = built(kind, problem, **({"lr": 1.0} if kind is mechanic_sgd else {}))
    for step in range(20):
        train(problem, optimizer, [step])
        total = [a + p.grad for a, p in zip(total, problem.parameters(), strict=True)]
        eta = norm(difference(problem.weights(), start)) / norm(total)
        assert optimizer.telemetry()[0]["eta"] == pytest.approx(eta.item(), rel=0.02)


@pytest.mark.parametrize("weight_decay", [0, 0.1])
@pytest.mark.parametrize("lr", [0.01, 100.0])  # the step size is the cap, and is below it
@pytest.mark.parametrize("kind", [MomoAdapter, MomoAdamAdapter])
def test_telemetry_of_momo_is_the_step_over_its_direction(kind, lr, weight_decay):
    problem = NothingMissing()
    optimizer = built(kind, problem, lr=lr, weight_decay=weight_decay)
    for step in range(1, 10):
        before = problem.weights()
        train(problem, optimizer, [step], takes_loss=True)
        (numbers,) = optimizer.telemetry()
        after = [weights * (1 + lr * weight_decay) for weights in problem.weights()]
        directions = []
        for p in problem.parameters():
            state = optimizer.state[p]
            if kind is MomoAdamAdapter:
                scale = (state["grad_avg_sq"] / (1 - 0.999**step)).sqrt() + 1e-8
            directions.append(state["grad_avg"] / (scale if kind is MomoAdamAdapter else 1))
        taken = norm(difference(before, after)) / norm(directions)
        assert numbers["eta"] == pytest.approx(taken.item(), rel=1e-3)
        cap = lr / (1 - 0.9**step) if kind is MomoAdamAdapter else lr
        assert numbers["lr"] == lr and (numbers["eta"] < 0.9 * cap) == (lr == 100)


@pytest.mark.parametrize("kind", [MomoAdapter, MomoAdamAdapter])
def test_telemetry_of_momo_is_0_while_the_gradient_that_it_looks_at_is(kind):
    p = torch.ones(2, requires_grad=True)
    p.grad = torch.zeros(2)
    optimizer = kind([p])
    optimizer.step(loss=torch.tensor(1.0))
    assert optimizer.telemetry()[0]["eta"] == 0


@pytest.mark.parametrize("kind", [AdamGAdapter, mechanic_adamw])
def test_telemetry_of_adam_is_the_first_steps_length_per_coordinate(kind):
    problem = NothingMissing()
    before = problem.weights()
    optimizer = built(kind, problem, lr=1.0, weight_decay=0.0)
    train(problem, optimizer, [0])
    lengths = torch.cat([t.flatten() for t in difference(problem.weights(), before)]).abs()
    assert optimizer.telemetry()[0]["eta"] == pytest.approx(lengths.mean().item(), rel=0.05)


@pytest.mark.parametrize("kind", [mechanic_adamw, mechanic_sgd])
def test_the_first_step_of_mechanic_is_as_long_as_its_start_says(kind):
    first = {}
    for s_init in (None, 1e-8, 1e-3):
        problem = NothingMissing()
        optimizer = built(kind, problem, lr=1.0, s_init=s_init)
        train(problem, optimizer, [0])
        first[s_init] = optimizer.telemetry()[0]["eta"]
    assert first[None] == first[1e-8] == pytest.approx(1e-5 * first[1e-3], rel=1e-4)


@pytest.mark.parametrize("kind", [Prodigy, DAdaptAdam])
def test_d_is_the_next_steps_length_per_coordinate(kind):
    problem = NothingMissing()
    optimizer = built(kind, problem, betas=(1e-9, 0.0), d0=1e-3)
    d = 1e-3
    for step in range(5):
        before = problem.weights()
        train(problem, optimizer, [step])
        lengths = torch.cat([t.flatten() for t in difference(problem.weights(), before)]).abs()
        assert lengths.median().item() == pytest.approx(d, rel=0.01)
        d = optimizer.param_groups[0]["d"]


@pytest.mark.parametrize("alpha", [100, 1000])
def test_the_first_step_of_cocob_moves_each_weight_by_one_over_alpha(alpha):
    problem = NothingMissing()
    before = problem.weights()
    train(problem, built(COCOB, problem, alpha=alpha), [0])
    lengths = torch.cat([t.flatten() for t in difference(problem.weights(), before)]).abs()
    torch.testing.assert_close(lengths, torch.full_like(lengths, 1 / alpha), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", WITH_TELEMETRY)
def test_telemetry_has_a_positive_step_size(kind):
    problem = Problem()
    optimizer = built(kind, problem, **ALL[kind])
    for step in range(20):
        train(problem, optimizer, [step], kind in TAKE_LOSS)
        assert all(0 < numbers["eta"] < float("inf") for numbers in optimizer.telemetry())


@pytest.mark.parametrize("kind", [SGDScheduleFree, AdamWScheduleFree])
def test_the_suites_warmup_is_schedule_frees_own(kind):
    opt = OptimizerSpec.model_construct(schedule="constant", warmup=0.3)
    ours, its = Problem(), Problem()
    own = built(kind, its, lr=0.1, warmup_steps=4)  # after 3 of 10 steps, the 4th has the whole
    loops = built(kind, ours, lr=0.1)
    for step in range(10):
        loops.param_groups[0]["lr"] = 0.1 * factor(step, 10, opt.schedule, opt.warmup)
        train(ours, loops, [step])
        train(its, own, [step])
    assert all(map(torch.equal, ours.weights(), its.weights()))
