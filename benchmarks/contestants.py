"""The optimizers whose steps are measured: ours, the authors' package, torch's and others'."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import dog
from benchmarks import published
from tasks.data.sources import is_fetched
from tasks.data.storage import default_data_dir

# So small that the weights of those that have a learning rate hardly change.
LR = 1e-6
EXTRA = "pip install -c constraints.txt -e '.[rivals]'"


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
    """

    title: str
    build: Callable[[nn.Module], list[Stepping]]


def package(name: str, hint: str = EXTRA) -> ModuleType:
    """Import a package.

    Raises:
        NotInstalledError: with the hint, if it is not there.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotInstalledError(hint) from error


def on_host(stepping: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors that stay on the host wherever the parameters are.

    They are the step counters of torch's optimizers, as long as these are not capturable.
    """
    for each in stepping:
        if type(each).__module__.startswith("torch.optim."):
            for state in each.state.values():
                yield from (value for name, value in state.items() if name == "step")


def _ours(kind: type[dog.DoG], implementation: Any, average: bool, model: nn.Module) -> list:
    averaging = dog.PolynomialDecay() if average else None
    return [kind(model.parameters(), averaging=averaging, implementation=implementation)]


def _published(average: bool, model: nn.Module) -> list[Stepping]:
    if not is_fetched(published.source(), default_data_dir()):
        raise NotInstalledError("make prepare")
    theirs = published.load()
    optimizer = theirs.DoG(model.parameters())
    return [optimizer, theirs.PolynomialDecayAverager(model)] if average else [optimizer]


def _torch(kind: type[torch.optim.Optimizer], options: dict[str, Any], model: nn.Module) -> list:
    return [kind(model.parameters(), lr=LR, weight_decay=0.0, **options)]


def _other(name: str, optimizer: str, model: nn.Module, **options: Any) -> list[Stepping]:
    return [getattr(package(name), optimizer)(model.parameters(), **options)]


def _schedule_free(model: nn.Module) -> list[Stepping]:
    (optimizer,) = _other("schedulefree", "AdamWScheduleFree", model, lr=LR)
    optimizer.train()
    return [optimizer]


def _all() -> dict[str, Contestant]:
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
    for name, module, optimizer in (
        ("prodigy", "prodigyopt", "Prodigy"),
        ("dadapt_adam", "dadaptation", "DAdaptAdam"),
        ("dowg", "dowg", "DoWG"),
        ("cdowg", "dowg", "CDoWG"),
    ):
        distribution = {"dowg": "dowgopt"}.get(module, module)
        title = f"{distribution}: {optimizer}"
        found[name] = Contestant(title, partial(_other, module, optimizer))
    title = "schedulefree: AdamWScheduleFree"
    found["schedule_free_adamw"] = Contestant(title, _schedule_free)
    return found


# What all are compared with: it moves as many bytes as DoG does, and has nothing to find out.
REFERENCE = "sgd_momentum_fused"
CONTESTANTS = _all()
