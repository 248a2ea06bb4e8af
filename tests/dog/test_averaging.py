"""Polynomial-decay averaging against its definition, and on models with awkward tensors."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dog import PolynomialDecayAverager


def vector(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@settings(max_examples=30, deadline=None)
@given(gamma=st.floats(0.0, 50.0), steps=st.integers(1, 20))
def test_average_follows_its_definition(gamma, steps):
    model = nn.Linear(3, 2).double()
    averager = PolynomialDecayAverager(model, gamma)
    expected = np.zeros(8)
    for t in range(1, steps + 1):
        nn.utils.vector_to_parameters(torch.randn(8).double(), model.parameters())
        w = (1 + gamma) / (t + gamma)
        expected = (1 - w) * expected + w * vector(model).numpy()
        averager.step()
    average = vector(averager.averaged_model).numpy()
    np.testing.assert_allclose(average, expected, rtol=1e-9, atol=1e-12)


def test_gamma_zero_is_the_plain_mean():
    model, seen = nn.Linear(2, 1), []
    averager = PolynomialDecayAverager(model, gamma=0.0)
    for _ in range(5):
        nn.init.normal_(model.weight)
        seen.append(vector(model))
        averager.step()
    torch.testing.assert_close(vector(averager.averaged_model), torch.stack(seen).mean(0))


def test_batch_norm_statistics_are_averaged_and_counters_copied():
    model = nn.BatchNorm1d(3)
    averager = PolynomialDecayAverager(model)
    means = []
    for _ in range(3):
        model(torch.randn(8, 3) + 5)
        means.append(model.running_mean.clone())
        averager.step()
    expected = means[0]
    for t, mean in enumerate(means[1:], start=2):
        expected = (1 - 9 / (t + 8)) * expected + 9 / (t + 8) * mean
    torch.testing.assert_close(averager.averaged_model.running_mean, expected)
    assert averager.averaged_model.num_batches_tracked == 3


def test_integer_and_boolean_buffers_are_copied():
    model = nn.Linear(1, 1)
    model.register_buffer("count", torch.tensor([1], dtype=torch.int32))
    model.register_buffer("mask", torch.tensor([True, False]))
    averager = PolynomialDecayAverager(model)
    for _ in range(2):
        model.count += 5
        model.mask.logical_not_()
        averager.step()
    assert averager.averaged_model.count.item() == 11
    assert averager.averaged_model.mask.tolist() == [True, False]


def test_infinity_of_a_mask_stays():
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    model.frozen = nn.Parameter(torch.tensor([-math.inf]), requires_grad=False)
    averager = PolynomialDecayAverager(model)
    for _ in range(3):
        averager.step()
    assert torch.equal(averager.averaged_model.mask, model.mask)
    assert torch.equal(averager.averaged_model.frozen, model.frozen)


def test_buffers_that_are_not_saved_are_averaged_and_copied_too():
    model = nn.Linear(1, 1)
    model.register_buffer("scale", torch.zeros(1), persistent=False)
    model.register_buffer("count", torch.tensor(0), persistent=False)
    averager = PolynomialDecayAverager(model, gamma=0.0)
    for _ in range(3):
        model.scale += 1
        model.count += 1
        averager.step()
    assert averager.averaged_model.scale.item() == pytest.approx(2)
    assert averager.averaged_model.count.item() == 3


@pytest.mark.parametrize("first", [0, 2], ids=["before the first step", "in mid-run"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_model_that_takes_another_type_is_averaged_on(dtype, first):
    model = nn.BatchNorm1d(3)
    averager = PolynomialDecayAverager(model, gamma=0.0)
    for t in range(4):
        if t == first:
            model.to(dtype)
        nn.init.constant_(model.weight, t)
        nn.init.constant_(model.running_mean, t)
        averager.step()
    assert averager.averaged_model.weight.tolist() == pytest.approx([1.5] * 3)
    assert averager.averaged_model.running_mean.tolist() == pytest.approx([1.5] * 3)


def test_tied_weights_are_averaged_once_and_stay_tied():
    tied, plain = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)), nn.Embedding(4, 3)
    tied[1].weight = tied[0].weight
    averagers = PolynomialDecayAverager(tied), PolynomialDecayAverager(plain)
    for _ in range(5):
        weights = torch.randn(4, 3)
        for model, averager in zip((tied[0], plain), averagers, strict=True):
            with torch.no_grad():
                model.weight.copy_(weights)
            averager.step()
    average = averagers[0].averaged_model
    torch.testing.assert_close(average[0].weight, averagers[1].averaged_model.weight)
    assert average[0].weight is average[1].weight


def test_model_in_training_is_not_changed():
    model = nn.Linear(2, 2)
    averager = PolynomialDecayAverager(model)
    before = copy.deepcopy(model.state_dict())
    averager.step()
    nn.init.zeros_(averager.averaged_model.weight)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert averager.base_model is model


def test_reset_lets_the_next_step_copy():
    model = nn.Linear(2, 1)
    averager = PolynomialDecayAverager(model)
    for _ in range(3):
        nn.init.normal_(model.weight)
        averager.step()
    averager.reset()
    nn.init.normal_(model.weight)
    averager.step()
    assert torch.equal(averager.averaged_model.weight, model.weight)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_saved_and_loaded_average_goes_on_bit_for_bit(k):
    values = torch.randn(7, 3)
    averages = []
    for reload_at in (None, k):
        model = nn.Linear(3, 1, bias=False)
        averager = PolynomialDecayAverager(model)
        for step, value in enumerate(values):
            if step == reload_at:
                buffer = io.BytesIO()
                torch.save(averager.state_dict(), buffer)
                buffer.seek(0)
                averager = PolynomialDecayAverager(model)
                averager.load_state_dict(torch.load(buffer, weights_only=True))
            with torch.no_grad():
                model.weight.copy_(value)
            averager.step()
        averages.append(vector(averager.averaged_model))
    assert torch.equal(*averages)


def test_reset_forgets_an_average_that_is_not_finite():
    model = nn.Linear(2, 1)
    averager = PolynomialDecayAverager(model)
    nn.init.constant_(averager.averaged_model.weight, float("nan"))
    averager.step()
    assert torch.equal(averager.averaged_model.weight, model.weight)


def test_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="gamma"):
        PolynomialDecayAverager(nn.Linear(1, 1), gamma=-1.0)


def test_layer_added_or_taken_away_is_followed_and_the_other_averages_stay():
    model, twin = nn.Sequential(nn.Linear(3, 3)), nn.Linear(3, 3)
    averagers = PolynomialDecayAverager(model), PolynomialDecayAverager(twin)
    averagers[0].averaged_model.eval()
    for step in range(6):
        if step == 3:
            model.append(nn.Linear(3, 2))
        if step == 5:
            del model[1]
        for averager, layer in zip(averagers, (model[0], twin), strict=True):
            nn.init.constant_(layer.weight, step)
            nn.init.constant_(layer.bias, step)
            averager.step()
        average = averagers[0].averaged_model
        assert len(average) == len(model) and not average.training
        assert torch.equal(vector(average[0]), vector(averagers[1].averaged_model))
        if step == 3:
            assert torch.equal(vector(average[1]), vector(model[1]))
            assert average[1].weight is not model[1].weight


@pytest.mark.parametrize("sizes", [(4, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("kind", [nn.Buffer, nn.Parameter])
def test_tensor_that_changes_shape_is_copied(kind, sizes):
    model = nn.Linear(1, 1)
    averager = PolynomialDecayAverager(model)
    for size in sizes:
        model.memory = kind(torch.arange(float(size)))
        averager.step()
    assert torch.equal(averager.averaged_model.memory, model.memory)
    averager.averaged_model.memory.data.zero_()
    assert model.memory.sum() == sum(range(sizes[1]))


def test_sixteen_bit_tensor_that_changes_shape_is_copied():
    model = nn.Linear(2, 1).bfloat16()
    averager = PolynomialDecayAverager(model)
    for size in (2, 2, 3, 3):
        model.weight = nn.Parameter(torch.full((1, size), float(size), dtype=torch.bfloat16))
        averager.step()
    assert torch.equal(averager.averaged_model.weight, model.weight)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("normed", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_layers_that_compute_their_weight_are_averaged(normed):
    model = normed(nn.Linear(3, 2))
    model(torch.ones(1, 3))
    averager = PolynomialDecayAverager(model)
    for _ in range(3):
        averager.step()
    model.eval(), averager.averaged_model.eval()
    inputs = torch.randn(4, 3)
    torch.testing.assert_close(averager.averaged_model(inputs), model(inputs))
    assert {p.data_ptr() for p in model.parameters()}.isdisjoint(
        p.data_ptr() for p in averager.averaged_model.parameters()
    )
