"""The param groups as a step sees them: one list of tensors, in step-size groups.

A step-size group is what shares a step size: a param group, all of them, or a tensor (``scope``).
Its numbers (dog.equations.SCALARS) are a row of a table, so that one operation computes the step
sizes of all.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter, call, is_
from types import ModuleType
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor

from dog.distributed import Processes, is_sharded, local, local_gradient
from dog.equations import SCALARS
from dog.kernels import foreach, fused, reference
from dog.kernels.bundle import Bundle, sent
from dog.storage import rounds

# Bundles, each with the module that has the kernels for it.
Bundles = list[tuple[ModuleType, Bundle]]

IMPLEMENTATIONS = {"reference": reference, "foreach": foreach, "fused": fused}


class Members(NamedTuple):
    """The parameters that take part in a step, in the groups' order: entry i is of parameter i."""

    groups: list[dict[str, Any]]
    params: list[Tensor]
    states: list[dict[str, Tensor]]


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


class StepSizeGroups:
    """Which parameters share a step size.

    Args:
        keys: one for each parameter; equal keys, which are neighbours, make a step-size group.
        groups: the param group of each parameter.
        indices: on the device of the step-size groups' numbers.

    Attributes:
        count: R, how many there are.
        of: the number of each parameter's step-size group, which is its row in the table.
        firsts: the index of the first parameter of each param group.
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
        self.firsts: list[int] = []
        self._rows_of: list[slice] = []
        for _, run in groupby(range(len(groups)), lambda i: id(groups[i])):
            places = list(run)
            self.firsts.append(places[0])
            self._rows_of.append(slice(self.of[places[0]], self.of[places[-1]] + 1))
        self._options: dict[str, tuple[list[Any], Tensor]] = {}

    def sum(self, values: Tensor) -> Tensor:
        """Sum the parameters' numbers, [k, n], over each step-size group, [k, R].

        One call sums all groups of one size; each gets the bits that it gets alone.
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
        """Return its step-size group's value for each parameter of a bundle, [n], on its device."""
        count = len(bundle.params)
        if len(values) > 1 and not (self._by_tensor and len(values) == count):
            values = values[self._indices.of([self.of[i] for i in bundle.index])]
        return sent(values, bundle.params[0].device).expand(count)

    def option(self, name: str, groups: list[dict[str, Any]]) -> Any:
        """Return an option of the param groups: one value or, where they differ, float64 [R].

        There, 0 stands for None. Only what has changed since the last step is filled in, which
        does not wait for the device. A CUDA graph that is replayed fills in tensors, and
        keeps the floats as they were.
        """
        # A tensor has one element, whatever its shape.
        values = [
            value.reshape(()) if isinstance(value, Tensor) else value
            for value in (groups[i][name] for i in self.firsts)
        ]
        if len(values) == 1 or self.count == 1 or all(value is None for value in values):
            return values[0]
        if torch.compiler.is_compiling():  # a look at the values would compile each change anew
            numbers = self._zeros()
            for value, rows in zip(values, self._rows_of, strict=True):
                numbers[rows].fill_(0.0 if value is None else value)
            return numbers
        if len(set(values)) == 1:
            return values[0]
        if name not in self._options:
            self._options[name] = [math.nan] * len(values), self._zeros()
        known, numbers = self._options[name]
        for i, (value, rows) in enumerate(zip(values, self._rows_of, strict=True)):
            is_tensor = isinstance(value, Tensor)
            if is_tensor or value != known[i]:
                numbers[rows].fill_(0.0 if value is None else value)
                known[i] = math.nan if is_tensor else value  # a tensor may change by itself
        return numbers

    def _zeros(self) -> Tensor:
        return torch.zeros(self.count, dtype=torch.float64, device=self._indices.device)


class Layout:
    """The distance of each parameter from its start, the step sizes' numbers, a plan of the step.

    All param groups take a step together, so that many cost little more than one. It is made from
    the param groups and the state, which anybody may change, and serves as long as it :meth:`fits`
    them. Between steps it keeps no parameter and no x_0 alive.

    Args:
        members: the parameters that have state; their scalars become views of the table.
        keys: one for each parameter, equal for those that share a step size.
        processes: those that the parameters are spread over.
        averages: whether the optimizer keeps averages.
        averages_previous_iterate: whether these take x_t rather than x_{t+1}.

    Attributes:
        scalars: the numbers of the step-size groups, float64 [len(SCALARS), R].
    """

    def __init__(
        self,
        members: Members,
        keys: Sequence[Hashable],
        processes: Processes,
        averages: bool,
        averages_previous_iterate: bool,
    ) -> None:
        groups, params, states = members
        self.averages, self.averages_previous_iterate = averages, averages_previous_iterate
        self.home = local(params[0]).device if params else torch.device("cpu")
        self._indices = Indices(self.home)
        self.rows = StepSizeGroups(keys, groups, self._indices)
        self.scalars = self._zeros(len(SCALARS), self.rows.count)
        # Of a row they are kept once, and those of its first parameter count.
        views = [self.scalars[:, row] for row in range(self.rows.count)]
        first_of: dict[int, int] = {}
        for i, row in enumerate(self.rows.of):
            if first_of.setdefault(row, i) == i:
                views[row].copy_(states[i]["scalars"])
        for row, state in zip(self.rows.of, states, strict=True):
            state["scalars"] = views[row]
        # ‖x_t − x_0‖² of the part of each parameter that lies here, and what it was measured on:
        # a parameter that was changed since has another stamp.
        self.distance2 = self._zeros(len(params))
        self.stamps: list[Any] = [None] * len(params)
        self._known: list[int] = []  # of those that were set aside, whose distance is
        # Which kernels do which parameters, by the parameters that have a gradient.
        self._plans: dict[tuple, list[tuple[ModuleType, list[int]]]] = {}
        self._dtypes = [local(p).dtype for p in params]
        self._plain = not any(is_sharded(p) or p.is_complex() for p in params)
        self._flags: dict[tuple[int, ...], Tensor] = {}
        counted = [i for i, p in enumerate(params) if processes.contributes(p)]
        self._counted = self._flag(counted) if len(counted) < len(params) else None
        # What this was made from. Parameters that something refers to cannot be swapped
        # (torch.utils.swap_tensors), not even weakly.
        self._views = views  # so that their ids stay theirs
        self._pointers = [view.data_ptr() for view in views]
        self._first_of_row = list(first_of.values())
        self._groups, self._ids = list(map(id, groups)), _ids(members)
        self._refs = [_nothing if t is None else ref(t) for t in self._kept(members)]

    def fits(self, members: Members) -> bool:
        """Return whether parameters and state are still those that this was made from."""
        if _ids(members) != self._ids:
            return False
        # It reads what else there is from where it is; and torch 2.11's has no ids of dicts.
        if torch.compiler.is_compiling():
            return True
        if list(map(id, members.groups)) != self._groups:
            return False
        numbers = [members.states[i]["scalars"] for i in self._first_of_row]
        return (
            # `tensor.data = ...` moves numbers away, too.
            [t.data_ptr() for t in numbers] == self._pointers
            and all(map(is_, self._kept(members), map(call, self._refs)))
        )

    def _kept(self, members: Members) -> list[Tensor | None]:
        """Return what the state has of each parameter, beside the numbers of its row."""
        names = ("x0", "compensation", "average") if self.averages else ("x0", "compensation")
        return [state.get(name) for name in names for state in members.states]

    def bundles(self, members: Members, implementation: str) -> Bundles:
        """Return the tensors that have a gradient, bundled, each with the kernels for it."""
        grads = [p.grad for p in members.params]
        places = [i for i, gradient in enumerate(grads) if gradient is not None]
        if not self._plain or not _match(members.params, grads):
            return self._bundled(members, places, implementation, with_gradients=True)
        key = implementation, self._decays(members), *places
        if key not in self._plans:
            _make_room(self._plans)
            made = self._bundled(members, places, implementation, with_gradients=True)
            self._plans[key] = [(kernels, bundle.index) for kernels, bundle in made]
            return made
        return [
            (kernels, self._refilled(members, index, grads)) for kernels, index in self._plans[key]
        ]

    def norms(
        self, members: Members, bundles: Bundles, implementation: str, grad_scale: Tensor | None
    ) -> Tensor:
        """Return the sums over each step-size group, in this process, float64 [3, R].

        ‖g_t‖², ‖x_t − x_0‖², and how many parameters have a gradient.
        """
        self.measure(members, implementation)
        gradient2 = torch.zeros_like(self.distance2)
        places = []
        for kernels, bundle in bundles:
            self._put(bundle.index, kernels.gradient2(bundle, grad_scale), gradient2)
            places += bundle.index
        values = torch.stack([gradient2, self.distance2, self._flag(places)])
        if self._counted is not None:
            values = values * self._counted
        return self.rows.sum(values)

    def measure(self, members: Members, implementation: str) -> None:
        """Measure the distance of the parameters that have changed since the last measurement.

        A compiled step cannot see changes: it trusts the distances that are known when it is
        compiled, and does not note its own, so that the next step is the same graph.
        """
        if torch.compiler.is_compiling():
            places = [i for i, stamp in enumerate(self.stamps) if stamp is None]
        else:
            now = self._stamps(members)
            if now == self.stamps:
                return
            places = [i for i, stamp in enumerate(now) if stamp != self.stamps[i]]
            if any(then and then[1] != now[i][1] for i, then in enumerate(self.stamps)):
                self._plans.clear()  # in other memory it may have other strides
        for kernels, bundle in self._bundled(members, places, implementation, with_gradients=False):
            self._put(bundle.index, kernels.distance2(bundle), self.distance2)
        self.mark(members, places)

    def update(
        self,
        members: Members,
        bundles: Bundles,
        eta: Tensor,
        average_weight: Tensor | None,
        take: Tensor,
        grad_scale: Tensor | None,
    ) -> None:
        """Make the step; η and the average's weight are those of each step-size group, [R]."""
        known = []
        for kernels, bundle in bundles:
            device = bundle.params[0].device
            measured = kernels.update(
                bundle,
                self.rows.spread(eta, bundle),
                None if average_weight is None else self.rows.spread(average_weight, bundle),
                sent(take, device),
                grad_scale,
            )
            if measured is not None:
                self._put(bundle.index, measured, self.distance2)
                known += bundle.index
            else:
                self.forget(bundle.index)
        self.mark(members, known)  # after all: views of one tensor are stamped by each write to it
        if average_weight is not None:
            self._average_idle(members, bundles, average_weight, take)

    def _average_idle(
        self, members: Members, bundles: Bundles, average_weight: Tensor, take: Tensor
    ) -> None:
        """Take the parameters without a gradient into their averages: they count where they are."""
        busy = {i for _, bundle in bundles for i in bundle.index}
        idle = [i for i in range(len(members.params)) if i not in busy]
        for _, bundle in self._bundled(members, idle, "reference", with_gradients=False):
            weights = self.rows.spread(average_weight, bundle)
            for i in range(len(bundle.params)):
                reference.average(bundle, i, weights, sent(take, weights.device))

    def mark(self, members: Members, places: Iterable[int]) -> None:
        """Note that ``distance2`` is of these parameters as they are now."""
        if torch.compiler.is_compiling():
            return
        now = self._stamps(members)
        for i in places:
            self.stamps[i] = now[i]

    def set_aside(self, members: Members) -> None:
        """Keep in mind which distances are known, before other values take the weights' place."""
        now = self._stamps(members)
        self._known = [i for i, stamp in enumerate(now) if stamp == self.stamps[i]]

    def put_back(self, members: Members) -> None:
        """Note that the weights are again those that were set aside, bit for bit."""
        self.mark(members, self._known)
        self._known = []

    def forget(self, places: Iterable[int]) -> None:
        """Let the distance of these parameters be measured anew."""
        for i in places:
            self.stamps[i] = None

    def numbers(self) -> dict[str, Tensor]:
        """Return the step-size groups' numbers by name, [R] each."""
        return dict(zip(SCALARS, self.scalars, strict=True))

    def _decays(self, members: Members) -> tuple[int, ...]:
        """Return a number for each group, the same where the weight decay is."""
        numbers: dict[float, int] = {}
        decays = (members.groups[i]["weight_decay"] for i in self.rows.firsts)
        return tuple(numbers.setdefault(decay, len(numbers)) for decay in decays)

    def _stamps(self, members: Members) -> list[tuple[int, int]]:
        """Return what changes when parameters are written to."""
        parts = members.params if self._plain else [local(p) for p in members.params]
        return [*zip(map(_version_of, parts), map(Tensor.data_ptr, parts), strict=True)]

    def _bundled(
        self, members: Members, places: list[int], implementation: str, with_gradients: bool
    ) -> Bundles:
        bundles: dict[Any, tuple[ModuleType, Bundle]] = {}
        for i in places:
            group, p, state = members.groups[i], members.params[i], members.states[i]
            x, x0 = local(p), local(state["x0"])
            if x.shape != x0.shape or x.dtype != self._dtypes[i] or rounds(x0, x):
                raise RuntimeError(
                    f"a parameter has become {tuple(x.shape)}, {x.dtype} since the first step: "
                    "make the optimizer when the model has its final shapes and types"
                )
            gradient = local_gradient(p) if with_gradients else None
            average = local(state["average"]) if self.averages else None
            rest = local(state["compensation"]) if "compensation" in state else None
            for name, tensor in (("x_0", x0), ("average", average), ("compensation", rest)):
                if tensor is not None and tensor.device != x.device:
                    raise RuntimeError(
                        f"a parameter is on {x.device} and its {name} on {tensor.device}: move the "
                        "model before its first step, and before a state is loaded"
                    )
            kernels = _kernels(implementation, x, gradient, x0, average, rest)
            decay = group["weight_decay"]
            key = (x.device, x.dtype, kernels.__name__, decay, rest is None)
            if key not in bundles:
                bundle = Bundle(
                    weight_decay=decay, averages_previous_iterate=self.averages_previous_iterate
                )
                bundles[key] = kernels, bundle
            bundles[key][1].add(i, x, gradient, x0, average, rest)
        return list(bundles.values())

    def _refilled(
        self, members: Members, index: list[int], grads: Sequence[Tensor | None]
    ) -> Bundle:
        """Return a bundle of tensors as those for which the kernels were chosen."""
        states = [members.states[i] for i in index]
        return Bundle(
            index,
            params=[members.params[i] for i in index],
            grads=[grads[i] for i in index],  # type: ignore[misc]
            starts=[state["x0"] for state in states],
            averages=[state["average"] for state in states] if self.averages else [],
            compensations=[s["compensation"] for s in states if "compensation" in s],
            weight_decay=members.groups[index[0]]["weight_decay"],
            averages_previous_iterate=self.averages_previous_iterate,
        )

    def _put(self, places: list[int], values: Tensor, into: Tensor) -> None:
        """Write numbers of some parameters, in place: a CUDA graph knows the address."""
        values = sent(values, self.home)
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
            flags = [float(i in chosen) for i in range(len(self.stamps))]
            self._flags[key] = torch.tensor(flags, dtype=torch.float64, device=self.home)
        return self._flags[key]


def _make_room(kept: dict) -> None:
    """Bound what is kept where ever other parameters have a gradient, as with random depth."""
    if len(kept) >= 64:
        kept.clear()


def _match(params: list[Tensor], grads: Sequence[Tensor | None]) -> bool:
    """Return whether all gradients lie in memory as their parameters do."""
    return all(
        g is None
        or (
            g.dtype == p.dtype
            and g.layout == torch.strided
            # The first is quick to see, and usual.
            and ((g.is_contiguous() and p.is_contiguous()) or g.stride() == p.stride())
        )
        for p, g in zip(params, grads, strict=True)
    )


def _ids(members: Members) -> list[int]:
    """Return what each parameter and the tensor of its numbers are known by."""
    numbers = [state["scalars"] for state in members.states]
    return [id(tensor) for tensors in (members.params, numbers) for tensor in tensors]


_version_of = attrgetter("_version")


def _nothing() -> None:
    """Stand for a reference where there is nothing to refer to."""


def _kernels(
    wanted: str,
    p: Tensor,
    gradient: Tensor | None,
    x0: Tensor,
    average: Tensor | None,
    rest: Tensor | None,
) -> ModuleType:
    """Return the implementation that was asked for, or the fastest that can do a tensor."""
    if wanted in ("reference", "foreach"):
        return IMPLEMENTATIONS[wanted]
    tensors = [t for t in (p, x0, average, rest) if t is not None]
    if fused.applies(tensors, gradient):
        return fused
    if wanted == "fused":
        raise RuntimeError(
            f'implementation="fused" cannot do a {p.dtype} parameter on {p.device} with strides '
            f'{p.stride()}; use "auto"'
        )
    return foreach
