"""The param groups as a step sees them: one list of tensors, and the row each belongs to."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby
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


class Indices:
    """Lists of places as tensors. Making one waits for the device, so they are kept."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._made: dict[tuple[int, ...], Tensor] = {}

    def of(self, places: list[int]) -> Tensor:
        """Return the places, int64 [n]."""
        key = tuple(places)
        if key not in self._made:
            _make_room(self._made)
            self._made[key] = torch.tensor(places, device=self.device)
        return self._made[key]


class Rows:
    """Which parameters share a step size: those of one row.

    Args:
        keys: for each parameter a key that it shares with those, its neighbours, of the same row.
        groups: the group of each.
        indices: on the device that the rows' numbers are on.

    Attributes:
        count: R, how many there are.
        of: the row of each parameter.
        groups: each group once, in order.
    """

    def __init__(
        self, keys: Sequence[Hashable], groups: list[dict[str, Any]], indices: Indices
    ) -> None:
        self._indices = indices
        sizes = Counter(keys)
        rows = {key: row for row, key in enumerate(sizes)}
        self.count = len(rows)
        self.of = [rows[key] for key in keys]
        self._by_tensor = self.count == len(keys)
        # The parameters' places by the size of their row, and where the rows are in that order.
        self._places_by_size = {
            size: [i for i, key in enumerate(keys) if sizes[key] == size]
            for size in sorted(set(sizes.values()))
        }
        by_size = sorted(rows, key=lambda key: sizes[key])
        place_of = {key: place for place, key in enumerate(by_size)}
        self._order = [place_of[key] for key in rows]
        # The groups, each with its rows, and their options where these differ.
        self.groups: list[dict[str, Any]] = []
        self._rows_of: list[slice] = []
        for _, run in groupby(zip(groups, self.of, strict=True), lambda each: id(each[0])):
            own = list(run)
            self.groups.append(own[0][0])
            self._rows_of.append(slice(own[0][1], own[-1][1] + 1))
        self._options: dict[str, tuple[list[Any], Tensor]] = {}

    def sum(self, values: Tensor) -> Tensor:
        """Sum the parameters' numbers, [k, n], over the rows, [k, R].

        Rows of one size are summed by one call, in which each has the bits that it has alone.
        """
        if self._by_tensor:
            return values
        if len(self._places_by_size) == 1:
            return values.view(len(values), self.count, -1).sum(dim=2)
        parts = [
            values.index_select(1, self._indices.of(places)).view(len(values), -1, size).sum(dim=2)
            for size, places in self._places_by_size.items()
        ]
        return torch.cat(parts, dim=1).index_select(1, self._indices.of(self._order))

    def spread(self, values: Tensor, bundle: Bundle) -> Tensor:
        """Return for each parameter of a bundle the number of its row, [n], where the bundle is."""
        count = len(bundle.params)
        if len(values) > 1 and not (self._by_tensor and len(values) == count):
            values = values[self._indices.of([self.of[i] for i in bundle.index])]
        return values.to(bundle.params[0].device, non_blocking=True).expand(count)

    def option(self, name: str) -> Any:
        """Return an option of the groups: one for all rows or, where groups differ, float64 [R].

        There, 0 stands for None, and only what has changed since the step before is filled in,
        which does not wait for the device. A CUDA graph that is replayed fills in tensors, and
        keeps the floats as they were.
        """
        values = [group[name] for group in self.groups]
        if len(values) == 1 or self.count == 1 or all(value is None for value in values):
            return values[0]
        if torch.compiler.is_compiling():  # a look at the values would compile each change anew
            numbers = self._zeros()
            for value, rows in zip(values, self._rows_of, strict=True):
                _fill(numbers[rows], value)
            return numbers
        if len(set(values)) == 1:
            return values[0]
        if name not in self._options:
            self._options[name] = [math.nan] * len(values), self._zeros()
        known, numbers = self._options[name]
        for i, (value, rows) in enumerate(zip(values, self._rows_of, strict=True)):
            is_tensor = isinstance(value, Tensor)
            if is_tensor or value != known[i]:
                _fill(numbers[rows], value)
                known[i] = math.nan if is_tensor else value  # a tensor may change by itself
        return numbers

    def _zeros(self) -> Tensor:
        return torch.zeros(self.count, dtype=torch.float64, device=self._indices.device)


class Layout:
    """The parameters that take part, how far each is from its start, and the numbers of each row.

    All param groups take a step together, so that many cost little more than one.

    Args:
        members: the parameters that have state, each with its group, in the groups' order.
        states: the state of each; its scalars become a view of its row's.
        keys: for each parameter a key that it shares with those, its neighbours, of the same row.
        processes: those that the parameters are spread over.
        average_first: whether the averages take x_t rather than x_{t+1}.

    Attributes:
        scalars: the numbers of the rows, float64 [len(SCALARS), R].
    """

    def __init__(
        self,
        members: list[tuple[dict[str, Any], Tensor]],
        states: list[dict[str, Tensor]],
        keys: Sequence[Hashable],
        processes: Processes,
        average_first: bool,
    ) -> None:
        self.members, self.states = members, states
        self.params = params = [p for _, p in members]
        self.average_first = average_first
        self.home = local(params[0]).device if params else torch.device("cpu")
        self._indices = Indices(self.home)
        self.rows = Rows(keys, [group for group, _ in members], self._indices)
        self.scalars = self._zeros(len(SCALARS), self.rows.count)
        for row, state in zip(self.rows.of, states, strict=True):  # of a row they are kept once
            state["scalars"] = self.scalars[:, row].copy_(state["scalars"])
        # ‖x_t − x_0‖² of the part of each parameter that lies here, and what it was measured on:
        # a parameter that was changed since has another stamp.
        self.distance2 = self._zeros(len(params))
        self.stamps: list[Any] = [None] * len(params)
        # Bundles that need only the gradients of a step, by the parameters that have one.
        self._frames: dict[tuple, Bundles] = {}
        self._dtypes = [local(p).dtype for p in params]
        self._plain = not any(is_sharded(p) or p.is_complex() for p in params)
        self._flags: dict[tuple[int, ...], Tensor] = {}
        counted = [i for i, p in enumerate(params) if processes.contributes(p)]
        self._counted = self._flag(counted) if len(counted) < len(params) else None

    def bundles(self, implementation: str) -> Bundles:
        """Return the tensors that have a gradient, bundled, each with the kernels for it."""
        places = [i for i, p in enumerate(self.params) if p.grad is not None]
        if not self._plain or not _match([self.params[i] for i in places]):
            return self._bundled(places, implementation, with_gradients=True)
        key = implementation, self._decays(), *places
        if key not in self._frames:
            _make_room(self._frames)
            self._frames[key] = self._bundled(places, implementation, with_gradients=True)
        frames = self._frames[key]
        for _, bundle in frames:  # all but the gradients is as it was in the step before
            bundle.weight_decay = self.members[bundle.index[0]][0]["weight_decay"]
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
        return self.rows.sum(values)

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
        known = []
        for kernels, bundle in bundles:
            device = bundle.params[0].device
            measured = kernels.update(
                bundle,
                self.rows.spread(eta, bundle),
                None if average_weight is None else self.rows.spread(average_weight, bundle),
                take.to(device, non_blocking=True),
                grad_scale,
            )
            if measured is not None:
                self._put(bundle.index, measured, self.distance2)
                known += bundle.index
            else:
                self.forget(bundle.index)
            bundle.grads = []  # so that zero_grad() frees them
        self.mark(known)  # after all: views of one tensor are stamped by every write to it
        if average_weight is not None:
            self._average_idle(bundles, average_weight, take)

    def _average_idle(self, bundles: Bundles, average_weight: Tensor, take: Tensor) -> None:
        """Take the parameters without a gradient into their averages: they count where they are."""
        busy = {i for _, bundle in bundles for i in bundle.index}
        idle = [i for i in range(len(self.params)) if i not in busy]
        for _, bundle in self._bundled(idle, "reference", with_gradients=False):
            weights = self.rows.spread(average_weight, bundle)
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

    def numbers(self) -> dict[str, Tensor]:
        """Return the rows' numbers by name, [R] each."""
        return dict(zip(SCALARS, self.scalars, strict=True))

    def _decays(self) -> tuple[int, ...]:
        """Return a number for each group, the same where the weight decay is."""
        numbers: dict[float, int] = {}
        decays = (group["weight_decay"] for group in self.rows.groups)
        return tuple(numbers.setdefault(decay, len(numbers)) for decay in decays)

    def _stamps(self) -> list[Any]:
        """Return what changes when parameters are written to; a compiled step cannot look at it."""
        if torch.compiler.is_compiling():
            return ["compiled"] * len(self.params)
        parts = self.params if self._plain else map(local, self.params)
        return [(part._version, part.data_ptr()) for part in parts]

    def _bundled(self, places: list[int], implementation: str, with_gradients: bool) -> Bundles:
        bundles: dict[Any, tuple[ModuleType, Bundle]] = {}
        for i in places:
            (group, p), state = self.members[i], self.states[i]
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
            decay = group["weight_decay"]
            key = (x.device, x.dtype, kernels, decay)
            if key not in bundles:
                bundle = Bundle(weight_decay=decay, average_first=self.average_first)
                bundles[key] = kernels, bundle
            bundles[key][1].add(i, x, gradient, x0, average, rest)
        return list(bundles.values())

    def _put(self, places: list[int], values: Tensor, into: Tensor) -> None:
        """Write numbers of some parameters, in place: a CUDA graph knows the address."""
        values = values.to(self.home, non_blocking=True)
        if len(places) == len(into):
            into.copy_(values)
        else:
            into.index_copy_(0, self._indices.of(places), values)

    def _zeros(self, *sizes: int) -> Tensor:
        return torch.zeros(sizes, dtype=torch.float64, device=self.home)

    def _flag(self, places: list[int]) -> Tensor:
        """Return 1 at these places and 0 elsewhere, float64 [n], kept as indices are."""
        key = tuple(places)
        if key not in self._flags:
            _make_room(self._flags)
            chosen = set(places)
            flags = [float(i in chosen) for i in range(len(self.params))]
            self._flags[key] = torch.tensor(flags, dtype=torch.float64, device=self.home)
        return self._flags[key]


def _fill(numbers: Tensor, value: float | Tensor | None) -> None:
    """Fill in an option; a tensor has one element, whatever its shape."""
    if isinstance(value, Tensor):
        value = value.reshape(())
    numbers.fill_(0.0 if value is None else value)


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
