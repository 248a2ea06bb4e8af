"""What the paper's experiments cost: known operations, and runs counted by hand."""

import pandas as pd
import pytest
import torch

from benchmarks import paper_cost
from sweeps import plan


@pytest.mark.parametrize(
    ("model", "size", "millions", "gigaflops"),
    [
        # Parameters and multiply-adds as timm and the papers have them, with 100 classes; an
        # operation is a multiplication or an addition, and a training step thrice the forward pass.
        ("resnet50", 224, 23.7, 6 * 4.09),
        ("convnext_tiny", 224, 27.9, 6 * 4.46),
        ("wrn28_10", 32, 36.5, 6 * 5.24),
    ],
)
def test_operations_are_those_of_the_networks_papers(model, size, millions, gigaflops):
    with torch.device("meta"):
        network = paper_cost.build(model)
        counted = paper_cost.operations(network, paper_cost.inputs_of(model, size, batch=1))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert counted / 1e9 == pytest.approx(gigaflops, rel=0.03)


def test_runs_are_the_grid_and_then_the_reported_seeds(tmp_path):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        "parts:\n"
        "  - tasks: [cifar]\n    optimizers: [dog, sgd]\n    seeds: [0, 1]\n"
        "    overrides: [train.steps=100, train.eval_every=50, train.batch_size=10,"
        " train.validation_examples=30, train.test_examples=60]\n"
        "    grids: {sgd: {lr: [0.1, 0.2, 0.3]}}\n"
        "    vary: {dog: {reps_rel: [1.0e-5, 1.0e-3]}}\n"
    )
    dog, sgd = plan.load(str(sweep)).cells
    assert paper_cost.runs_of(dog) == 1 + 2 * (1 + 2)
    assert paper_cost.runs_of(sgd) == 3 + 2 * 2
    # 100 steps of 10; two iterates at steps 50 and 100 and at the end, forward only.
    examples = paper_cost.examples_of(sgd.config)
    assert examples == pytest.approx(1000 + 2 * (3 * 30 + 60) / 3)
    (price,) = paper_cost.prices_of(str(sweep))
    assert (price.model, price.size, price.runs) == ("efficientnet_lite0", 64, 14)
    assert price.examples == pytest.approx(14 * examples)


def test_hours_are_examples_by_the_rate_and_operations_by_the_assumed_one(tmp_path):
    cost = paper_cost.Cost("resnet50", 224, 23_700_000, 24.0, 10.0)
    price = paper_cost.Price("paper_vision", "resnet50", 224, 3, 36e6)
    path = tmp_path / "cost.md"
    paper_cost.write([price], {("resnet50", 224): cost}, torch.device("cpu"), path)
    (row,) = pd.read_csv(path.with_suffix(".csv")).to_dict("records")
    assert row["hours_here"] == 1000 and row["gpu_hours"] == pytest.approx(12.0)
    assert "paper_vision" in path.read_text() and "assumption" in path.read_text()
