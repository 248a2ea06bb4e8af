"""Steps of many optimizers on one model's parameters: counted one by one, timed in turns."""

import gc
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.contestants import REFERENCE, Contestant, Stepping, on_host
from benchmarks.counting import Traffic, held_bytes
from benchmarks.shapes import Shape

# Steps that are not looked at: state is made, caches and allocators fill, kernels are compiled.
WARM_UP = 3
# Timed steps of one optimizer end after so many seconds, but not before so many steps.
SECONDS, FEWEST = 1.5, 5
# An optimizer whose first step takes so many seconds is not measured: Muon's without a GPU.
TOO_SLOW = 10
# The part of free memory that is used, and copies of the parameters that a step may make in it.
_SHARE, _COPIES = 0.6, 6
COPY = "copy"


class TooSlowError(Exception):
    """A step takes too long to be measured here."""


@dataclass(frozen=True)
class Counts:
    """What a step does, whenever and wherever it is done.

    Attributes:
        bytes: moved, by :class:`benchmarks.counting.Traffic`.
        memory: bytes held beside parameters and gradients.
        syncs: times that the host waits for the device, or would on a GPU.
        launches: operators called; on a GPU, kernels launched.
    """

    bytes: int
    memory: int
    syncs: int
    launches: int


class Entrant:
    """An optimizer, perhaps with an averager, and a model of its own that it trains.

    The gradients are everyone's; see :meth:`Stand.renew`.
    """

    def __init__(self, contestant: Contestant, stand: "Stand") -> None:
        self.params = [nn.Parameter(x.clone()) for x in stand.weights]
        self.stepping = contestant.build(nn.ParameterList(self.params))
        for p, gradient in zip(self.params, stand.gradients, strict=True):
            p.grad = gradient

    def step(self) -> None:
        """Make a step."""
        for each in self.stepping:
            each.step()


class Stand:
    """The weights that all start from and the gradients that all use."""

    def __init__(self, shapes: list[Shape], device: torch.device) -> None:
        self.device = device
        generator = torch.Generator(device).manual_seed(0)
        # Random, so that x_0 cannot be kept in less memory than the weights themselves.
        self.weights = [0.02 * _normal(shape, generator) for shape in shapes]
        self._fixed = [1e-3 * _normal(shape, generator) for shape in shapes]
        self.gradients = [torch.empty_like(x) for x in self._fixed]

    def renew(self, turn: int) -> None:
        """Write the gradients, as a backward pass would have just before a step.

        They are the same at every turn but for their sign, which alternates, so that the weights
        stay where they are. AdamWScheduleFree changes the gradients it is given.
        """
        for gradient, fixed in zip(self.gradients, self._fixed, strict=True):
            torch.mul(fixed, 1 - 2 * (turn % 2), out=gradient)

    def wait(self) -> None:
        """Wait for the device to finish."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def count(self, contestant: Contestant) -> Counts:
        """Return what a step does after the first ones.

        Raises:
            NotInstalledError: if the contestant's package is missing.
            TooSlowError: if its first step takes `TOO_SLOW` seconds.
        """
        entrant = Entrant(contestant, self)
        for turn in range(WARM_UP):
            self.renew(turn)
            start = time.perf_counter()
            entrant.step()
            if time.perf_counter() - start > TOO_SLOW:
                raise TooSlowError
        self.renew(WARM_UP)
        with Traffic(device=self.device.type, on_host=on_host(entrant.stepping)) as traffic:
            entrant.step()
        return Counts(
            traffic.bytes,
            held_bytes(entrant.stepping, [*entrant.params, *self.gradients]),
            traffic.syncs,
            self._kernels(entrant) if self.device.type == "cuda" else traffic.calls,
        )

    def _release(self) -> None:
        """Give back the memory of entrants that have left."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _kernels(self, entrant: Entrant) -> int:
        """Return how many kernels a step launches."""
        self.renew(WARM_UP + 1)
        self.wait()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            entrant.step()
            self.wait()
        return sum(
            event.device_type == DeviceType.CUDA
            and not event.is_user_annotation
            and not event.name.startswith(("Memcpy", "Memset"))
            for event in profiler.events()
        )

    def race(self, contestants: Mapping[str, Contestant], steps: int) -> dict[str, list[float]]:
        """Return the seconds of every step: ``steps`` of each, or fewer of slow ones (`SECONDS`).

        Everyone makes one step a turn, in an order that changes, so that a machine that becomes
        slower or faster does so for all. On a GPU a copy of as many numbers as there are
        parameters, from device to device, takes part as well.
        """
        self._release()
        entrants: dict[str, Stepping] = {
            name: Entrant(contestant, self) for name, contestant in contestants.items()
        }
        if self.device.type == "cuda":
            entrants[COPY] = _Copy(sum(x.numel() for x in self.weights), self.device)
        seconds: dict[str, list[float]] = {name: [] for name in entrants}
        order, shuffler = list(entrants), random.Random(0)
        gc.disable()
        try:
            for turn in range(WARM_UP + steps):
                shuffler.shuffle(order)
                for name in order:
                    if len(seconds[name]) >= FEWEST and sum(seconds[name]) > SECONDS:
                        continue
                    self.renew(turn)
                    self.wait()
                    start = time.perf_counter()
                    entrants[name].step()
                    self.wait()
                    if turn >= WARM_UP:
                        seconds[name].append(time.perf_counter() - start)
        finally:
            gc.enable()
        for name, entrant in entrants.items():
            if isinstance(entrant, Entrant) and not _all_finite(entrant.params):
                raise RuntimeError(f"{name} has made weights that are not finite: no fair time")
        return seconds

    def batches(self, needs: Mapping[str, int]) -> Iterator[list[str]]:
        """Yield names so that each batch fits into memory; the reference is in every one.

        ``needs`` are the bytes of each one's state and averages.
        """
        self._release()
        parameters = sum(x.nbytes for x in self.weights)
        limit = _SHARE * _free_memory(self.device) - _COPIES * parameters
        own = {name: parameters + held for name, held in needs.items()}
        batch, used = [REFERENCE], own[REFERENCE]
        for name in needs:
            if name == REFERENCE:
                continue
            if len(batch) > 1 and used + own[name] > limit:
                yield batch
                batch, used = [REFERENCE], own[REFERENCE]
            batch.append(name)
            used += own[name]
        yield batch


class _Copy:
    """What a device can do at most: a large copy within its memory."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.source = torch.ones(count, device=device)
        self.target = torch.empty_like(self.source)

    def step(self) -> None:
        self.target.copy_(self.source)


def _normal(shape: Shape, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(x.isfinite().all()) for x in tensors)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: as much as any machine for this has
        return 8 * 1024**3
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
