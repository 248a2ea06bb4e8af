"""All that changes while a run trains, and how a checkpoint holds it."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_with_path

from dog import PolynomialDecayAverager
from runner import environment

# Steps between looks at whether the run has diverged: a look makes a GPU wait. It is part of what
# divergence means (TrainingState.look), so that no option may change it.
CHECK_EVERY = 10


@dataclass(frozen=True)
class BestIterate:
    """An iterate as it was at its best validation."""

    gain: float  # its score, negative where lower is better
    step: int
    weights: dict[str, Tensor]  # on the CPU


@dataclass
class TrainingState:
    """All that changes while a run trains; a checkpoint holds just this and the generators."""

    network: nn.Module
    optimizer: Optimizer
    averager: PolynomialDecayAverager | None  # None: the optimizer averages by itself
    step: int = 0  # steps taken
    train_loss: float = math.nan  # the latest that was read from the device
    diverged: bool = False  # whether a look has found that the run has diverged
    # How many of the latest steps in a row had a loss that was not finite, on the device.
    lost: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    earlier_seconds: float = 0.0  # time of earlier sessions, and all time if `began` is None
    train_seconds: float = 0.0  # of the steps alone, in all sessions
    sessions: int = 1  # how often the run was started
    metrics_bytes: int = 0  # length of metrics.jsonl
    replicas: int = 1  # how many runs trained together, at most
    # What the data and weights are read from, and `environment.numerics` of the earlier sessions.
    sources: Mapping[str, str | None] = field(default_factory=dict)
    earlier_numerics: Mapping[str, Any] = field(default_factory=dict)
    # By the name of the iterate, where the protocol asks.
    best: dict[str, BestIterate] = field(default_factory=dict)
    # When this session began; None while the run is charged a share of the time of several runs.
    began: float | None = field(default_factory=time.monotonic)

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return next(self.network.parameters()).device

    @property
    def iterates(self) -> dict[str, nn.Module]:
        """The sets of weights that an optimizer is judged by: the last, and their average.

        Of one that averages by itself it is the last alone, as they are :meth:`in_eval_mode`.
        """
        averaged = {} if self.averager is None else {"averaged": self.averager.averaged_model}
        return {"last": self.network, **averaged}

    @contextmanager
    def in_eval_mode(self) -> Iterator[None]:
        """Within, an optimizer that averages by itself has its average in the network.

        Afterwards the weights are those in training, bit for bit: its own way back rounds, and
        evaluation would change what is trained.
        """
        if self.averager is not None:
            yield
            return
        optimizer: Any = self.optimizer
        weights = [(p, p.detach().clone()) for p in self.network.parameters()]
        optimizer.eval()
        try:
            yield
        finally:
            optimizer.train()
            with torch.no_grad():
                for p, value in weights:
                    p.copy_(value)

    def count(self, loss: Tensor) -> None:
        """Count the loss of a step, a detached scalar, without waiting for the device."""
        self.lost = torch.where(loss.isfinite(), 0, self.lost.to(loss.device) + 1)

    def look(self) -> None:
        """Find out whether the run has diverged.

        It has if weights (or statistics) are not finite, or if none of the latest CHECK_EVERY
        losses was: an optimizer may skip a single one.
        """
        all_lost = bool(self.lost >= min(CHECK_EVERY, self.step))
        self.diverged = all_lost or not is_finite(self.network)

    def keep_if_best(self, name: str, gain: float) -> None:
        """Keep an iterate's weights if no earlier gain was as high; NaN is never the best."""
        if not math.isnan(gain) and (name not in self.best or gain > self.best[name].gain):
            weights = self.iterates[name].state_dict()
            copies = {key: tensor.detach().to("cpu", copy=True) for key, tensor in weights.items()}
            self.best[name] = BestIterate(gain, self.step, copies)

    _scalars = (
        "step",
        "train_loss",
        "diverged",
        "train_seconds",
        "sessions",
        "metrics_bytes",
        "replicas",
    )

    @property
    def seconds(self) -> float:
        """All the time that the run took so far, evaluation included."""
        running = 0.0 if self.began is None else time.monotonic() - self.began
        return self.earlier_seconds + running

    def stop_clock(self) -> None:
        """Count no time from now on but what is added to ``earlier_seconds``."""
        self.earlier_seconds, self.began = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs."""
        return {name: getattr(self, name) for name in self._scalars} | {
            "lost": int(self.lost),
            "sources": dict(self.sources),
            "numerics": environment.numerics(self),
            "seconds": self.seconds,
            "threads": torch.get_num_threads(),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averager": None if self.averager is None else self.averager.state_dict(),
            "best": {name: vars(kept) for name, kept in self.best.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was called."""
        for name in self._scalars:
            setattr(self, name, state[name])
        self.lost = torch.tensor(state["lost"])
        self.earlier_numerics = state.get("numerics", {})
        self.earlier_seconds = state["seconds"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(_placed(state["optimizer"], self.device))
        if self.averager is not None:
            self.averager.load_state_dict(state["averager"])
        self.best = {}
        for name, kept in state["best"].items():
            weights = {key: tensor.cpu() for key, tensor in kept["weights"].items()}
            self.best[name] = BestIterate(kept["gain"], kept["step"], weights)
        self.sessions += 1


def _placed(state: Any, device: torch.device) -> Any:
    """Return an optimizer's state on a device, but for Adam's numbers of steps.

    torch reads these on the CPU: on a GPU each would be waited for at every step.
    """

    def moved(path: tuple[Any, ...], value: Any) -> Any:
        stays = not isinstance(value, Tensor) or getattr(path[-1], "key", None) == "step"
        return value if stays else value.to(device)

    return tree_map_with_path(moved, state)


def is_finite(network: nn.Module) -> bool:
    """Return whether all weights and statistics of a network are finite."""
    tensors = [t.detach() for t in (*network.parameters(), *network.buffers())]
    bounds = [
        bound.double()
        for t in tensors
        if t.is_floating_point() and t.numel()
        for bound in torch.aminmax(t)
    ]
    return bool(torch.stack(bounds).isfinite().all())
