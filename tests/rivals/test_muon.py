"""Muon for whole networks: what goes to Muon and what to AdamW, and that each is torch's."""

import pytest
import torch
from torch import nn

from rivals.muon import VOCABULARY, Muon

OPTIONS = {"lr": 0.01, "weight_decay": 0.1}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, 3)
    )


def set_gradients(parameters, t):
    generator = torch.Generator().manual_seed(t)
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)


def test_steps_are_those_of_torchs_muon_and_adamw():
    ours, theirs = network(), network()
    optimizer = Muon(ours.parameters(), **OPTIONS)
    filters = nn.Parameter(theirs[0].weight.detach().flatten(1).clone())
    hidden = [filters, theirs[3].weight]
    rest = [p for p in theirs.parameters() if p is not theirs[0].weight and p is not hidden[1]]
    muon = torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw", **OPTIONS)
    adamw = torch.optim.AdamW(rest, **OPTIONS)
    for t in range(4):
        set_gradients(ours.parameters(), t)
        set_gradients(theirs.parameters(), t)
        filters.grad = theirs[0].weight.grad.flatten(1)
        for each in (optimizer, muon, adamw):
            each.step()
    assert torch.equal(ours[0].weight.flatten(1), filters)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert name == "0.weight" or torch.equal(p, q), name


def test_filters_may_lie_in_any_order():
    rows, channels_last = network(), network().to(memory_format=torch.channels_last)
    optimizers = [Muon(model.parameters(), **OPTIONS) for model in (rows, channels_last)]
    for t in range(3):
        for model, optimizer in zip((rows, channels_last), optimizers, strict=True):
            set_gradients(model.parameters(), t)
            optimizer.step()
    assert not channels_last[0].weight.is_contiguous()
    for p, q in zip(rows.parameters(), channels_last.parameters(), strict=True):
        assert torch.equal(p, q)


def muons(parameters, **options):
    """Return the places of the parameters that Muon trains."""
    parameters = list(parameters)
    set_gradients(parameters, 0)
    optimizer = Muon(parameters, **options)
    optimizer.step()
    return [i for i, p in enumerate(parameters) if "momentum_buffer" in optimizer.state[p]]


def test_muon_trains_hidden_matrices_alone():
    assert muons(network().parameters()) == [0, 4]
    assert muons(network().parameters(), head=False) == [0, 4, 6]


def test_adamw_trains_vocabularies_and_linear_models():
    embedding = nn.Embedding(VOCABULARY, 2)
    layers = [nn.Linear(2, 2) for _ in range(2)]
    assert muons(nn.Sequential(embedding, *layers).parameters()) == [1]
    assert muons(nn.Linear(5, 3).parameters()) == []


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"momentum": 1.0}, {"betas": (0.9, 1.0)}])
def test_impossible_arguments_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        Muon([nn.Parameter(torch.zeros(1))], **options)
