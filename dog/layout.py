"""A param group as the step sees it: lists of tensors, and the row of numbers each belongs to."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from dog.distributed import Processes, is_sharded, local, local_gradient
from dog.equations import SCALARS
from dog.kernels import foreach, fused, reference
from dog.kernels.bundle import Bundle

# Bundles, each with the module that has the kernels for it.
Bundles = list[tuple[ModuleType, Bundle]]

IMPLEMENTATIONS = {"reference": reference, "foreach": foreach, "fused": fused}


@dataclass
class Rows:
    """The sets of tensors that share a step size, and their numbers.

    Attributes:
        group: the param group whose reps_rel, lr, eps and init_eta count.
        scalars: float64 [len(SCALARS), R].
    """

    group: dict[str, Any]
    scalars: Tensor

    def named(self) -> dict[str, Tensor]:
        """Return the numbers by name, [R] each."""
        return dict(zip(SCALARS, self.scalars, strict=True))


class Layout:
    """The parameters of a group that take part, and how far each is from its start.

    Args:
        group: the param group.
        params: the parameters that have state, in the group's order.
        states: the state of each.
        rows: where their numbers are: in one row, or in one for each parameter.
        processes: those that the parameters are spread over.
        average_first: whether the averages take x_t rather than x_{t+1}.
    """

    def __init__(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        states: list[dict[str, Tensor]],
        rows: Rows,
        processes: Processes,
        average_first: bool,
    ) -> None:
        self.group, self.params, self.states, self.rows = group, params, states, rows
        self.average_first = average_first
        self.home = rows.scalars.device
        self.by_tensor = rows.scalars.shape[1] == len(params)
        # ‖x_t − x_0‖² of the part of each parameter that lies here, and what it was measured on:
        # a parameter that was changed since has another stamp.
        self.distance2 = torch.zeros(len(params), dtype=torch.float64, device=self.home)
        self.stamps: list[Any] = [None] * len(params)
        # Bundles that need only the gradients of a step, by the parameters that have one.
        self._frames: dict[tuple, Bundles] = {}
        self._dtypes = [local(p).dtype for p in params]
        self._plain = not any(is_sharded(p) or p.is_complex() for p in params)
        self._indices: dict[tuple[int, ...], Tensor] = {}
        self._flags: dict[tuple[int, ...], Tensor] = {}
        counted = [i for i, p in enumerate(params) if processes.contributes(p)]
        self._counted = self._flag(counted) if len(counted) < len(params) else None

    def bundles(self, implementation: str) -> Bundles:
        """Return the tensors that have a gradient, bundled, each with the kernels for it."""
        places = [i for i, p in enumerate(self.params) if p.grad is not None]
        if not self._plain or not _match([self.params[i] for i in places]):
            return self._bundled(places, implementation, with_gradients=True)
        key = implementation, *places
        if key not in self._frames:
            _make_room(self._frames)
            self._frames[key] = self._bundled(places, implementation, with_gradients=True)
        frames = self._frames[key]
        for _, bundle in frames:  # all but the gradients is as it was in the step before
            bundle.weight_decay = self.group["weight_decay"]
            bundle.grads = [self.params[i].grad for i in bundle.index]  # type: ignore[misc]
        return frames

    def norms(self, bundles: Bundles, implementation: str, grad_scale: Tensor | None) -> Tensor:
        """Return the sums over each row, in this process, float64 [3, R].

        ‖g_t‖², ‖x_t − x_0‖², and how many parameters have a gradient.
        """
        self.measure(implementation)
        gradient2 = torch.zeros_like(self.distance2)
        places = []
        for kernels, bundle in bundles:
            self._put(bundle.index, kernels.gradient2(bundle, grad_scale), gradient2)
            places += bundle.index
        values = torch.stack([gradient2, self.distance2, self._flag(places)])
        if self._counted is not None:
            values = values * self._counted
        return values if self.by_tensor else values.sum(dim=1, keepdim=True)

    def measure(self, implementation: str) -> None:
        """Measure the distance of the parameters that were changed since it was."""
        now = self._stamps()
        if now == self.stamps:
            return
        places = [i for i, stamp in enumerate(now) if stamp != self.stamps[i]]
        for kernels, bundle in self._bundled(places, implementation, with_gradients=False):
            self._put(bundle.index, kernels.distance2(bundle), self.distance2)
        self.mark(places)

    def update(
        self,
        bundles: Bundles,
        eta: Tensor,
        average_weight: Tensor | None,
        take: Tensor,
        grad_scale: Tensor | None,
    ) -> None:
        """Make the step; η and the average's weight are given for each row, [R]."""
        for kernels, bundle in bundles:
            device = bundle.params[0].device
            measured = kernels.update(
                bundle,
                self._spread(eta, bundle),
                None if average_weight is None else self._spread(average_weight, bundle),
                take.to(device, non_blocking=True),
                grad_scale,
            )
            if measured is not None:
                self._put(bundle.index, measured, self.distance2)
                self.mark(bundle.index)
            else:
                self.forget(bundle.index)
            bundle.grads = []  # so that zero_grad() frees them
        if average_weight is not None:
            self._average_idle(bundles, average_weight, take)

    def _average_idle(self, bundles: Bundles, average_weight: Tensor, take: Tensor) -> None:
        """Take the parameters without a gradient into their averages: they count where they are."""
        busy = {i for _, bundle in bundles for i in bundle.index}
        idle = [i for i in range(len(self.params)) if i not in busy]
        for _, bundle in self._bundled(idle, "reference", with_gradients=False):
            weights = self._spread(average_weight, bundle)
            for i in range(len(bundle.params)):
                reference.average(bundle, i, weights, take.to(weights.device, non_blocking=True))

    def mark(self, places: Iterable[int]) -> None:
        """Note that ``distance2`` is of these parameters as they are now."""
        now = self._stamps()
        for i in places:
            self.stamps[i] = now[i]

    def unchanged(self) -> list[int]:
        """Return the places of the parameters whose distance is known."""
        return [i for i, stamp in enumerate(self._stamps()) if stamp == self.stamps[i]]

    def forget(self, places: Iterable[int]) -> None:
        """Let the distance of these parameters be measured anew."""
        for i in places:
            self.stamps[i] = None

    def _stamps(self) -> list[Any]:
        """Return what changes when parameters are written to; a compiled step cannot look at it."""
        if torch.compiler.is_compiling():
            return ["compiled"] * len(self.params)
        parts = self.params if self._plain else map(local, self.params)
        return [(part._version, part.data_ptr()) for part in parts]

    def _bundled(self, places: list[int], implementation: str, with_gradients: bool) -> Bundles:
        bundles: dict[Any, tuple[ModuleType, Bundle]] = {}
        for i in places:
            p, state = self.params[i], self.states[i]
            x, x0 = local(p), local(state["x0"])
            if x.shape != x0.shape or x.dtype != self._dtypes[i]:
                raise RuntimeError(
                    f"a parameter has become {tuple(x.shape)}, {x.dtype} since the first step: "
                    "make the optimizer when the model has its final shapes and types"
                )
            gradient = local_gradient(p) if with_gradients else None
            average = local(state["average"]) if "average" in state else None
            rest = local(state["compensation"]) if "compensation" in state else None
            kernels = _kernels(implementation, x, gradient, x0, average)
            key = (x.device, x.dtype, kernels)
            if key not in bundles:
                bundles[key] = (
                    kernels,
                    Bundle(
                        weight_decay=self.group["weight_decay"], average_first=self.average_first
                    ),
                )
            bundles[key][1].add(i, x, gradient, x0, average, rest)
        return list(bundles.values())

    def _put(self, places: list[int], values: Tensor, into: Tensor) -> None:
        """Write numbers of some parameters, in place: a CUDA graph knows the address."""
        values = values.to(self.home, non_blocking=True)
        if len(places) == len(into):
            into.copy_(values)
        else:
            into.index_copy_(0, self._index(places), values)

    def _spread(self, values: Tensor, bundle: Bundle) -> Tensor:
        """Return for each parameter of a bundle the number of its row."""
        values = values.to(bundle.params[0].device, non_blocking=True)
        if not self.by_tensor:
            return values.expand(len(bundle.params))
        return values if len(values) == len(bundle.params) else values[self._index(bundle.index)]

    # Making these waits for the device, so they are kept.

    def _index(self, places: list[int]) -> Tensor:
        key = tuple(places)
        if key not in self._indices:
            _make_room(self._indices)
            self._indices[key] = torch.tensor(places, device=self.home)
        return self._indices[key]

    def _flag(self, places: list[int]) -> Tensor:
        """Return 1 at these places and 0 elsewhere, float64 [n]."""
        key = tuple(places)
        if key not in self._flags:
            _make_room(self._flags)
            chosen = set(places)
            flags = [float(i in chosen) for i in range(len(self.params))]
            self._flags[key] = torch.tensor(flags, dtype=torch.float64, device=self.home)
        return self._flags[key]


def _make_room(kept: dict) -> None:
    """Bound what is kept where ever other parameters have a gradient, as with random depth."""
    if len(kept) >= 64:
        kept.clear()


def _match(params: list[Tensor]) -> bool:
    """Return whether all gradients lie in memory as their parameters do."""
    return all(
        g.stride() == p.stride() and g.dtype == p.dtype and g.layout == torch.strided
        for p, g in ((p, p.grad) for p in params)
        if g is not None
    )


def _kernels(
    wanted: str, p: Tensor, gradient: Tensor | None, x0: Tensor, average: Tensor | None
) -> ModuleType:
    """Return the implementation that was asked for, or the fastest that can do a tensor."""
    if wanted in ("reference", "foreach"):
        return IMPLEMENTATIONS[wanted]
    tensors = [t for t in (p, gradient, x0, average) if t is not None]
    if fused.applies(tensors):
        return fused
    if wanted == "fused":
        raise RuntimeError(
            f'implementation="fused" cannot do a {p.dtype} parameter on {p.device} with strides '
            f'{p.stride()}; use "auto"'
        )
    return foreach
