"""The optimizers whose steps are measured: implementations of ours and torch's, and each yaml's."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

import dog
from benchmarks import published
from runner import config
from runner.optimizer import build_optimizer, take_step
from runner.specs import OptimizerSpec
from tasks.data.sources import is_fetched
from tasks.data.storage import default_data_dir
from tasks.errors import UserError

# What all are compared with: it moves as many bytes as DoG does, and has nothing to find out.
REFERENCE = "sgd_momentum_fused"
# So small that the weights of those that have a learning rate hardly change.
LR = 1e-6
EXTRA = "pip install -c constraints.txt -e '.[rivals]'"
# Step counters of these modules stay on the host wherever the parameters are.
_COUNTED_ON_HOST = ("torch.optim.", "rivals.muon")


class NotInstalledError(Exception):
    """A package is not there; the message says how to get it."""


class Stepping(Protocol):
    """An optimizer or an averager."""

    def step(self) -> Any:
        """Make a step."""
        ...


@dataclass(frozen=True)
class Contestant:
    """What makes one row of the table.

    Attributes:
        title: what the table calls it.
        build: makes, for a model in training, what is stepped one after the other.
        opt: the name of its yaml in configs/opt; of an implementation that no yaml has, "".
    """

    title: str
    build: Callable[[nn.Module], list[Stepping]]
    opt: str = ""


@functools.cache
def _spec(opt: str) -> OptimizerSpec:
    return config.load([f"opt={opt}"]).spec.opt


class _FromYaml:
    """An optimizer as the suite builds it and steps it, on gradients that are there already."""

    def __init__(self, opt: str, model: nn.Module) -> None:
        spec = _spec(opt)
        try:
            self.optimizer = build_optimizer(spec, model)
        except UserError as error:
            if isinstance(error.__cause__, ImportError):
                raise NotInstalledError(EXTRA) from error
            raise
        loss = torch.ones((), device=next(model.parameters()).device)
        self.step = lambda: take_step(self.optimizer, spec, loss, lambda: loss)


def on_host(stepping: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors that stay on the host wherever the parameters are.

    They are the step counters of torch's optimizers, as long as these are not capturable, and what
    NAdam makes of them.
    """
    for each in stepping:
        optimizer = getattr(each, "optimizer", each)
        if type(optimizer).__module__.startswith(_COUNTED_ON_HOST):
            for state in optimizer.state.values():
                yield from (state[name] for name in ("step", "mu_product") if name in state)


def _ours(kind: type[dog.DoG], implementation: Any, average: bool, model: nn.Module) -> list:
    averaging = dog.PolynomialDecay() if average else None
    return [kind(model.parameters(), averaging=averaging, implementation=implementation)]


def _published(average: bool, model: nn.Module) -> list[Stepping]:
    if not is_fetched(published.source(), default_data_dir()):
        raise NotInstalledError("make prepare")
    theirs = published.load()
    optimizer = theirs.DoG(model.parameters())
    return [optimizer, theirs.PolynomialDecayAverager(model)] if average else [optimizer]


def _from_yaml(opt: str, model: nn.Module) -> list[Stepping]:
    return [_FromYaml(opt, model)]


def _torch(kind: type[torch.optim.Optimizer], options: dict[str, Any], model: nn.Module) -> list:
    return [kind(model.parameters(), lr=LR, weight_decay=0.0, **options)]


@functools.cache
def find_contestants() -> dict[str, Contestant]:
    """Return all by name: the implementations, then the yamls of configs/opt."""
    SGD, AdamW = torch.optim.SGD, torch.optim.AdamW
    found: dict[str, Contestant] = {}
    for implementation in ("reference", "foreach", "fused"):
        for suffix, words, average in (("", "", False), ("_averaging", " + averaging", True)):
            build = partial(_ours, dog.DoG, implementation, average)
            title = f"DoG, {implementation}{words}"
            found[f"dog_{implementation}{suffix}"] = Contestant(title, build)
    ldog = partial(_ours, dog.LDoG, "fused", True)
    found |= {
        "ldog_fused_averaging": Contestant("LDoG, fused + averaging", ldog),
        "published_dog": Contestant("dog-optimizer: DoG", partial(_published, False)),
        "published_dog_averager": Contestant(
            "dog-optimizer: DoG + PolynomialDecayAverager", partial(_published, True)
        ),
    }
    for name, title, kind, options in (
        ("sgd_foreach", "SGD, foreach", SGD, {"foreach": True}),
        ("sgd_momentum_foreach", "SGD momentum, foreach", SGD, {"foreach": True, "momentum": 0.9}),
        (REFERENCE, "SGD momentum, fused", SGD, {"fused": True, "momentum": 0.9}),
        ("adamw_foreach", "AdamW, foreach", AdamW, {"foreach": True}),
        ("adamw_fused", "AdamW, fused", AdamW, {"fused": True}),
    ):
        found[name] = Contestant(title, partial(_torch, kind, options))
    for name in config.options("opt"):
        label = OmegaConf.load(config.CONFIGS / "opt" / f"{name}.yaml").label
        found[name] = Contestant(f"{label} (`opt={name}`)", partial(_from_yaml, name), name)
    return found
