"""What the paper's experiments cost: python -m benchmarks.paper_cost

Counts the operations of a training step of each of the paper's networks, measures how many this
machine does a second in that step, and prices every sweep of the paper in hours.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from analysis.text import markdown
from runner import cli, environment
from runner import config as configuration
from runner.specs import RunSpec
from sweeps import plan

OUTPUT = Path(__file__).parents[1] / "results" / "benchmarks" / "paper_cost.md"
SWEEPS = ("paper_language", "paper_vision", "paper_imagenet", "paper_cifar_scratch")
SWEEPS += ("paper_convex", "paper_figures")
# What one data-centre GPU may sustain in such training. An assumption, not a measurement of ours:
# it turns operations, which are counted, into the hours of a GPU that was not at hand.
ASSUMED_TERAFLOPS = 20.0
# Rates of a tuned optimizer that are run again to be reported: model-tuned and instance-tuned.
CHOSEN = 2
# Forward and backward are three times forward, which is all that evaluation does.
FORWARD = 1 / 3
# A T5 answer is a word or a few; the question is padded to the protocol's length.
ANSWER_TOKENS = 8

_LEGEND = f"""\
*runs*: every learning rate of the grid on the tuning seed, and on each reported seed the default of
an optimizer without a grid, {CHOSEN} chosen rates of one with a grid, and each value varied.
*hours here*: of the examples that these runs train on and evaluate, at the rate at which this
machine makes training steps with random inputs, on texts of full length: what padding to the
longest text of a batch saves is not in it. *gpu hours*: of the operations counted, at
{ASSUMED_TERAFLOPS:g} TFLOP/s sustained, an assumption and no measurement; on a machine with a GPU
the same command measures it. The steps of convex probes are left out: they take milliseconds on a
CPU."""


@dataclass(frozen=True)
class Cost:
    """A network's training step, by the example."""

    model: str
    size: int  # pixels a side, or tokens
    parameters: int
    gigaflops: float  # operations, forward and backward
    examples_per_second: float  # here


@dataclass(frozen=True)
class Price:
    """A sweep's runs of one network on examples of one size."""

    sweep: str
    model: str
    size: int
    runs: int
    examples: float  # trained on; those only evaluated count a third


@dataclass(frozen=True)
class Row:
    """A price in hours."""

    sweep: str
    model: str
    size: int
    runs: int
    examples_millions: float
    hours_here: float
    gpu_hours: float


def main() -> None:
    """Measure, price and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="measured a network (10)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the markdown file to write")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prices = [price for name in SWEEPS for price in prices_of(name)]
    sizes = sorted({(price.model, price.size) for price in prices})
    costs = {key: measure(*key, device, options.seconds) for key in sizes}
    write(prices, costs, device, options.output)


def prices_of(sweep: str) -> Iterator[Price]:
    """Count a sweep's runs and examples, a line a network and size."""
    totals: dict[tuple[str, int], list[float]] = {}
    for cell in plan.load(sweep).cells:
        runs = runs_of(cell)
        size = int(cell.config.spec.train.image_size or cell.config.spec.train.max_tokens)
        total = totals.setdefault((cell.config.spec.model.name, size), [0, 0.0])
        total[0] += runs
        if cell.config.spec.task.budget != "probe":  # whose steps take milliseconds without a GPU
            total[1] += runs * examples_of(cell.config.spec)
    for (model, size), (runs, examples) in totals.items():
        yield Price(sweep, model, size, int(runs), examples)


def runs_of(cell: plan.Cell) -> int:
    """Count a cell's runs: every grid point, then what is chosen or varied on each seed."""
    points = len(plan.points(cell.grid))
    varied = sum(len(values) for values in cell.vary.values())
    return points + len(cell.seeds) * ((CHOSEN if cell.grid else 1) + varied)


def examples_of(spec: RunSpec) -> float:
    """Count the examples of a run as training costs them, evaluation of both iterates included."""
    train, examples = spec.train, spec.task.data.examples
    test = train.test_examples or examples.get("test", 0)
    validation = train.validation_examples or examples.get("validation", test)
    evaluations = train.steps // train.eval_every + 1
    evaluated = 2 * (evaluations * validation + test)
    return float(train.steps * train.batch_size + FORWARD * evaluated)


def measure(model: str, size: int, device: torch.device, seconds: float) -> Cost:
    """Count the operations of a network's training step, and time the step."""
    with torch.device("meta"):
        network = build(model)
        flops = operations(network, inputs_of(model, size, batch=1))
        parameters = sum(p.numel() for p in network.parameters())
    network = build(model).to(device).train()
    batch = 4 if device.type == "cpu" else 32
    inputs = {name: x.to(device) for name, x in inputs_of(model, size, batch).items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)
    began = time.monotonic()
    for step in count():
        optimizer.zero_grad()
        loss_of(network(**inputs)).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.monotonic() - began
        if step == 0:  # it allocates
            began = time.monotonic()
        elif took > seconds:
            break
    return Cost(model, size, parameters, flops / 1e9, step * batch / took)


def operations(network: nn.Module, inputs: dict[str, Tensor]) -> float:
    """Count the floating-point operations of a forward and a backward pass.

    The backward pass counts as twice the forward one: torch's counter takes a grouped convolution's
    for a full one there.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(**inputs)
    return counter.get_total_flops() / FORWARD


def build(model: str) -> nn.Module:
    """Build a network of configs/model as large as it is, with random weights."""
    import timm
    from transformers import (
        RobertaConfig,
        RobertaForSequenceClassification,
        T5Config,
        T5ForConditionalGeneration,
    )

    from tasks.wide_resnet import WideResNet

    if model == "roberta_base":
        config = RobertaConfig(vocab_size=50265, max_position_embeddings=514)
        return RobertaForSequenceClassification(config)
    if model == "t5_base":
        sizes: dict[str, Any] = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
        sizes["decoder_start_token_id"] = 0
        return T5ForConditionalGeneration(T5Config(**sizes))
    if model == "wrn28_10":
        return _Named(WideResNet(depth=28, width=10, outputs=10))
    arch = OmegaConf.load(configuration.CONFIGS / "model" / f"{model}.yaml").arch
    return _Named(timm.create_model(arch, num_classes=100))


class _Named(nn.Module):
    """An image network whose input has a name, as those of texts have."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def inputs_of(model: str, size: int, batch: int) -> dict[str, Tensor]:
    """Return a batch of made-up examples of the given size."""
    if model not in ("roberta_base", "t5_base"):
        return {"images": torch.zeros(batch, 3, size, size)}
    tokens = torch.full((batch, size), 5)
    labels = {"labels": torch.full((batch, ANSWER_TOKENS), 5)} if model == "t5_base" else {}
    return {"input_ids": tokens, **labels}


def loss_of(outputs: Any) -> Tensor:
    """Return any number that needs the whole backward pass."""
    return (outputs if isinstance(outputs, Tensor) else outputs.logits).float().sum()


def write(
    prices: list[Price], costs: dict[tuple[str, int], Cost], device: torch.device, path: Path
) -> None:
    """Write the tables for people, and beside them the prices as csv."""
    rows = [
        Row(
            price.sweep,
            price.model,
            price.size,
            price.runs,
            round(price.examples / 1e6, 1),
            round(price.examples / cost.examples_per_second / 3600, 1),
            round(price.examples * cost.gigaflops / (ASSUMED_TERAFLOPS * 1e3) / 3600, 1),
        )
        for price in prices
        for cost in [costs[price.model, price.size]]
    ]
    table = pd.DataFrame(map(asdict, rows))
    total = table.groupby("sweep", sort=False)[["runs", "hours_here", "gpu_hours"]].sum()
    networks = pd.DataFrame(map(asdict, costs.values()))
    networks["gigaflops_per_second"] = networks["gigaflops"] * networks["examples_per_second"]
    texts = [
        "# What the paper's experiments cost",
        f"`python -m benchmarks.paper_cost` on {_machine(device)}.",
        "## Sweeps",
        markdown(_spoken(total.reset_index()), ["sweep"]),
        _LEGEND,
        "## By network",
        markdown(_spoken(table[table["examples_millions"] > 0]), ["sweep", "model"]),
        "## A training step",
        markdown(_spoken(networks), ["model"]),
        "",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(texts).rstrip() + "\n", "utf-8")
    path.with_suffix(".csv").write_text(table.to_csv(index=False, lineterminator="\n"))


def _spoken(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table as people read it: words in the heading, three digits or whole numbers."""
    shown = frame.map(lambda value: f"{value:.3g}" if _is_small(value) else _whole(value))
    return shown.rename(columns=lambda name: name.replace("_", " "))


def _is_small(value: Any) -> bool:
    return isinstance(value, float) and value < 100


def _whole(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}"


def _machine(device: torch.device) -> str:
    hardware = environment.describe(device)["hardware"]
    return f"{hardware['gpu'] or hardware['cpu']}, torch {torch.__version__}, float32"


if __name__ == "__main__":
    cli.main(main)
