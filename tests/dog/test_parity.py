"""Step by step the same as the authors' package dog-optimizer 1.0.3."""

import copy

import pytest
import torch
from torch import nn

import dog
from benchmarks import published
from tasks.data.sources import is_fetched
from tasks.data.storage import default_data_dir

pytestmark = [
    pytest.mark.filterwarnings("ignore:param groups each"),
    pytest.mark.real_data,
    pytest.mark.skipif(
        not is_fetched(published.source(), default_data_dir()),
        reason="needs the package dog-optimizer to compare with: run make prepare",
    ),
]


def network(dtype):
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)
    return nn.Sequential(*layers).to(dtype)


def both_trained(name, arguments, dtype, steps):
    """Yield, after every step, ours and theirs: two models and two averaged models."""
    ours, theirs = dog, published.load()
    runs = []
    for package in (ours, theirs):
        model = network(dtype)
        first, second = list(model.parameters())[:2], list(model.parameters())[2:]
        groups = [{"params": first}, {"params": second, "weight_decay": 0.3}]
        optimizer = getattr(package, name)(groups, **arguments)
        runs.append((model, optimizer, package.PolynomialDecayAverager(model)))
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        inputs = torch.randn(16, 6, generator=generator).to(dtype)
        targets = torch.randint(3, (16,), generator=generator)
        for model, optimizer, averager in runs:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            averager.step()
        yield [(model, averager.averaged_model) for model, _, averager in runs]


def assert_close(ours, theirs, tolerance):
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(
            value, theirs.state_dict()[name], rtol=tolerance, atol=tolerance, msg=name
        )


@pytest.mark.parametrize("name", ["DoG", "LDoG"])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"reps_rel": 1e-3},
        {"reps_rel": 1e-2, "weight_decay": 0.1},
        {"init_eta": 0.05},
        {"lr": 0.5, "eps": 1e-3, "reps_rel": 1e-2},
    ],
    ids=str,
)
def test_every_step_equals_the_published_one_in_float64(name, arguments):
    for (ours, our_average), (theirs, their_average) in both_trained(
        name, arguments, torch.float64, 100
    ):
        assert_close(ours, theirs, 1e-9)
        assert_close(our_average, their_average, 1e-9)


@pytest.mark.parametrize("name", ["DoG", "LDoG"])
@pytest.mark.parametrize("implementation", ["reference", "foreach", "fused"])
@pytest.mark.parametrize(
    "arguments",
    [{"reps_rel": 1e-3}, {"init_eta": 0.05}, {"reps_rel": 1e-3, "weight_decay": 0.1}],
    ids=str,
)
def test_float32_follows_the_published_steps(name, implementation, arguments, monkeypatch):
    monkeypatch.setitem(dog.DoG.__init__.__kwdefaults__, "implementation", implementation)
    for (ours, our_average), (theirs, their_average) in both_trained(
        name, arguments, torch.float32, 50
    ):
        assert_close(ours, theirs, 1e-4)
        assert_close(our_average, their_average, 1e-4)


def test_names_arguments_and_defaults_are_the_published_ones():
    import inspect

    theirs = published.load()
    for name in ("DoG", "LDoG", "PolynomialDecayAverager"):
        ours_signature = inspect.signature(getattr(dog, name).__init__)
        their_signature = inspect.signature(getattr(theirs, name).__init__)
        theirs_listed = [(n, p.default) for n, p in their_signature.parameters.items()]
        ours_listed = [(n, p.default) for n, p in ours_signature.parameters.items()]
        # What is ours alone comes after.
        assert ours_listed[: len(theirs_listed)] == theirs_listed
    public = {n for n in vars(theirs.PolynomialDecayAverager) if not n.startswith("_")}
    assert public <= set(vars(dog.PolynomialDecayAverager))


def test_averager_loads_what_the_published_one_saved():
    model = network(torch.float32)
    theirs = published.load().PolynomialDecayAverager(model)
    for _ in range(3):
        nn.init.normal_(model[0].weight)
        theirs.step()
    ours = dog.PolynomialDecayAverager(copy.deepcopy(model))
    ours.load_state_dict(theirs.state_dict())
    assert ours.t == 4
    assert_close(ours.averaged_model, theirs.averaged_model, 0.0)


@pytest.mark.parametrize("name", ["DoG", "LDoG"])
@pytest.mark.parametrize("arguments", [{"reps_rel": 1e-2}, {"init_eta": 0.05}], ids=str)
def test_run_of_the_published_optimizer_goes_on_with_ours(name, arguments):
    theirs_model = network(torch.float64)
    theirs = getattr(published.load(), name)(theirs_model.parameters(), **arguments)

    def train(model, optimizer, steps):
        for t in steps:
            optimizer.zero_grad()
            x = torch.randn(16, 6, generator=torch.Generator().manual_seed(t)).double()
            model(x).pow(2).mean().backward()
            optimizer.step()

    train(theirs_model, theirs, range(5))
    ours_model = copy.deepcopy(theirs_model)
    ours = getattr(dog, name)(ours_model.parameters(), **arguments)
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    train(theirs_model, theirs, range(5, 20))
    train(ours_model, ours, range(5, 20))
    assert_close(ours_model, theirs_model, 1e-9)


def test_published_state_from_before_the_first_step_is_loaded():
    theirs = published.load().DoG(network(torch.float32).parameters())
    ours = dog.DoG(network(torch.float32).parameters())
    ours.load_state_dict(theirs.state_dict())
    assert ours.telemetry() == [] and not ours.state


def test_what_schedulers_keep_in_the_published_groups_is_loaded():
    model = network(torch.float64)

    def scheduled(package):
        optimizer = package.DoG(model.parameters())
        one_cycle = torch.optim.lr_scheduler.OneCycleLR
        return optimizer, one_cycle(optimizer, 1.0, total_steps=9, cycle_momentum=False)

    theirs, their_schedule = scheduled(published.load())
    model(torch.ones(4, 6).double()).sum().backward()
    theirs.step()
    ours, our_schedule = scheduled(dog)
    ours.step()  # as schedulers want it
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for _ in range(3):
        their_schedule.step()
        our_schedule.step()
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
