"""DoG: SGD that finds its own step size.

Source: Ivgi, Hinder, Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size
Schedule", arXiv 2302.12022, 2023.
"""

import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, overload

import torch
from torch import Tensor
from torch import distributed as dist
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from dog import modes, storage
from dog.averaging import Averaging, weight_of
from dog.closure import loss_of
from dog.distributed import Processes, local
from dog.equations import (
    AUTO_REPS_REL,
    SCALARS,
    STRAIGHT,
    Dampening,
    advance,
    diagnoses,
    first_row,
)
from dog.layout import IMPLEMENTATIONS, Layout, Members

logger = logging.getLogger(__name__)

Scope = Literal["group", "global", "tensor"]
SCOPES: tuple[Scope, ...] = ("group", "global", "tensor")
# Options that are the same for all that share a step size.
SHARED = ("reps_rel", "auto_start", "lr", "eps", "init_eta")
Implementation = Literal["auto", "reference", "foreach", "fused"]


class DoG(Optimizer):
    r"""Distance over Gradients: SGD whose step size needs no learning rate.

    With :math:`x_t` all parameters of a group as one vector and :math:`g_t` its gradient,

    .. math::
        x_{t+1} = x_t - \eta_t g_t, \qquad
        \eta_t = c\,\frac{\bar r_t}{\sqrt{G_t}}, \qquad
        \bar r_t = \max\bigl(r_\epsilon, \max_{k \le t} \|x_k - x_0\|\bigr), \qquad
        G_t = \epsilon + \sum_{k \le t} \|g_k\|^2,

    and :math:`r_\epsilon` = ``reps_rel`` :math:`\cdot (1 + \|x_0\|)`, so the first step has the
    length :math:`r_\epsilon` (Ivgi et al. 2023, equation (DoG) and section 4.1).

    DoG does not decay its step size: evaluate the *averaged* weights (``averaging=``, or
    :class:`PolynomialDecayAverager`), not the last ones.

    A step does not wait for the device. If a gradient is not finite, the step is skipped: weights,
    averages and numbers stay. ``torch.amp.GradScaler`` may hand over gradients still scaled.
    DTensors (FSDP2, HSDP, tensor parallelism) give the step sizes of one process.

    Args:
        params: parameters, or dicts that define parameter groups. A parameter without a gradient
            is left as it is.
        reps_rel: the size of the first step relative to ``1 + ‖x_0‖``. The paper uses 1e-4 for
            vision and 1e-6 for language. ``"auto"`` starts at 1e-4 and lets the step size grow
            faster as long as the steps agree (:data:`dog.equations.STRAIGHT`); it has failed on
            language tasks (docs/start.md). The param group then has ``auto_start``. Default: 1e-6,
            as in ``dog-optimizer``.
        lr: the factor c. The paper and this package advise against changing it; 0 for a group
            leaves its weights as they are. Default: 1.
        weight_decay: L2 penalty; ``weight_decay * x_t`` joins the gradient (and so G), while
            ``p.grad`` stays as it was. Default: 0.
        eps: added once to the sum of squared gradient norms. Default: 1e-8.
        init_eta: the first step size itself, in place of what ``reps_rel`` gives; it stays until
            a gradient that is not 0 has moved the weights.
        averaging: the running average to keep, :class:`PolynomialDecay` or
            :class:`DistanceWeighted`, in float32 for 16-bit parameters; :meth:`eval` puts it in
            place. Default: none.
        scope: what shares a step size: each param ``"group"`` (the published behaviour), all
            groups together (``"global"``), or each ``"tensor"`` by itself (L-DoG).
        max_grad_norm: clip the norm of the whole gradient, weight decay included, to this, at no
            cost; G sums the clipped gradients, as after ``clip_grad_norm_``; p.grad stays as it
            was. Default: never.
        compensate: keep what rounding takes from the weights, in a tensor of their size beside
            them (Kahan). Default: for 16-bit parameters alone, which would not move without.
        process_group: the processes over which plain tensors are shards of the parameters, as
            with FSDP1 and ZeRO. Each has its own part, of the same number of parameters. Not
            needed for DTensors, nor for DistributedDataParallel, whose parameters are whole.
        implementation: ``"reference"``, ``"foreach"`` or ``"fused"``; ``"auto"``: the fastest that
            supports the tensor.

    Raises:
        ValueError: for an argument that is out of its range.
        RuntimeError: in :meth:`step`, for a sparse gradient, in eval mode, and where a parameter
            has taken another shape or type since its first step.

    Example:
        >>> import torch
        >>> from dog import DoG, PolynomialDecay
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = DoG(model.parameters(), averaging=PolynomialDecay(gamma=8))
        >>> for _ in range(5):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(4, 3)).pow(2).mean().backward()
        ...     _ = optimizer.step()
        >>> optimizer.eval()  # the weights are averages now
        >>> model(torch.ones(1, 3)).shape
        torch.Size([1, 1])
        >>> optimizer.train()
        >>> [numbers["step"] for numbers in optimizer.telemetry()]
        [5]
    """

    # GradScaler then leaves the scale to the step, in `grad_scale` and `found_inf`.
    _step_supports_amp_scaling = True
    _usual_scope: Scope = "group"
    _told_of_schedule = False
    # What an optimizer has beside defaults, state and groups, and takes along when it is copied.
    _options: tuple[str, ...] = (
        "averaging", "scope", "max_grad_norm", "compensate", "process_group", "implementation"
    )  # fmt: skip

    def __init__(
        self,
        params: ParamsT,
        reps_rel: float | Literal["auto"] = 1e-6,
        lr: float = 1.0,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        init_eta: float | None = None,
        *,
        averaging: Averaging | None = None,
        scope: Scope | None = None,
        max_grad_norm: float | None = None,
        compensate: bool | None = None,
        process_group: "dist.ProcessGroup | None" = None,
        implementation: Implementation = "auto",
    ) -> None:
        self.averaging = averaging
        self.scope = scope or self._usual_scope
        self.max_grad_norm = max_grad_norm
        self.compensate = compensate
        self.process_group = process_group
        self.implementation = implementation
        self._layout: Layout | None = None
        if self.scope not in SCOPES:
            raise ValueError(f"scope must be one of {', '.join(SCOPES)}; got {scope!r}")
        if implementation not in (known := ("auto", *IMPLEMENTATIONS)):
            raise ValueError(
                f"implementation must be one of {', '.join(known)}; got {implementation!r}"
            )
        if averaging is not None and (
            isinstance(averaging, type) or not hasattr(averaging, "weight")
        ):
            raise TypeError(
                f"averaging must be like averaging=PolynomialDecay(); got {averaging!r}"
            )
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive; got {max_grad_norm}")
        defaults = {
            "reps_rel": reps_rel,
            "lr": lr,
            "weight_decay": weight_decay,
            "eps": eps,
            "init_eta": init_eta,
        }
        _check(defaults)  # also where every group has its own
        if not lr > 0:  # that of a group may be 0, which leaves its weights as they are
            raise ValueError(f"lr must be positive, and should be 1; got {lr}")
        super().__init__(params, defaults)
        for group in self.param_groups:
            if group["lr"] != 1:
                logger.warning("lr=%g: DoG is meant to be used with lr=1", group["lr"])
        groups = [group for group in self.param_groups if group["params"]]
        could_share = len(groups) > 1 and not any(_differ(groups, name) for name in SHARED)
        if scope is None and self.scope == "group" and could_share:
            warnings.warn(
                "param groups each get a step size of their own, which is not DoG on the whole "
                'model: scope="global" gives them one (scope="group" says that it is meant)',
                stacklevel=2,
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; a group added in mid-run starts anew, from where it is."""
        options = self.defaults | param_group
        _check(options)
        param_group = {"auto_start": 0.0, **param_group}
        if options["init_eta"] is not None:
            # The first distance is 0 then, so that r̄ comes from the first step alone.
            param_group["reps_rel"] = 0.0
        elif options["reps_rel"] == "auto":
            param_group |= {"reps_rel": AUTO_REPS_REL, "auto_start": STRAIGHT}
        self._refuse_in_eval_mode("add_param_group()")
        super().add_param_group({**param_group, "scope": self.scope})  # so that it is saved

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters that have a gradient; return the closure's loss, if given one."""
        loss = loss_of(closure)
        if not self._told_of_schedule and not torch.compiler.is_compiling():
            self._look_for_schedule()
        self._refuse_in_eval_mode("step()")
        members = self._started()
        if not members.params:
            return loss
        layout = self._bound(members)
        grad_scale: Tensor | None = getattr(self, "grad_scale", None)
        found_inf: Tensor | None = getattr(self, "found_inf", None)

        # ‖g_t‖² and ‖x_t − x_0‖² of each row. The gradients are read once; the distances were
        # measured when the weights were written.
        bundles = layout.bundles(members, self.implementation)
        norms = layout.norms(members, bundles, self.implementation, grad_scale)
        sums = self._processes.sum(norms)
        gradient2, distance2, present = sums[0], sums[1], sums[2] > 0

        # A step is taken by all rows or, where a gradient is not finite, by none.
        total = sums[:2].sum(dim=1)
        finite = total.isfinite().all()
        if found_inf is not None:
            finite = finite & (found_inf.to(finite.device) == 0)
        shrink = None
        if self.max_grad_norm is not None:
            shrink = (self.max_grad_norm / (total[0].sqrt() + 1e-6)).clamp(max=1)

        # η_t of each row, from the paper's equations.
        eta = advance(
            layout.scalars,
            gradient2,
            distance2,
            finite,
            present,
            lr=layout.rows.option("lr", members.groups),
            init_eta=layout.rows.option("init_eta", members.groups),
            shrink=shrink,
            dampening=self._dampening(),
            auto_start=layout.rows.option("auto_start", members.groups),
        )
        if shrink is not None:
            eta = eta * shrink
        take = finite & present.any()
        weight = None
        if self.averaging is not None:
            weight = weight_of(self.averaging, layout.numbers(), present)

        # x_{t+1}, its average and its distance from the start in one pass.
        layout.update(members, bundles, eta, weight, take, grad_scale)
        modes.average_buffers(self.averaging, self.param_groups[0], take, weight)
        return loss

    def _dampening(self) -> Dampening | None:
        """Return what stands for G in the step size's denominator; None: G."""
        return None

    def _look_for_schedule(self) -> None:
        """Warn, once, where one of torch's schedulers has changed lr."""
        for group in self.param_groups:
            now, initial = group["lr"], group.get("initial_lr", group["lr"])
            if not isinstance(now, Tensor) and now != initial:  # a look at a tensor would wait
                self._told_of_schedule = True
                warnings.warn(
                    f"a schedule has changed lr from {initial:g} to {now:g}, and the step size "
                    "with it: DoG finds its own; use a constant schedule",
                    stacklevel=3,
                )
                return

    @torch.no_grad()
    def refresh(self) -> None:
        """Measure all distances from the start again.

        The step notices by itself when weights were changed between two steps, except through
        ``p.data`` and, in a CUDA graph or a compiled step, at all: call this then.
        """
        self._refuse_in_eval_mode("refresh()")
        members = self._members()
        layout = self._bound(members)
        layout.forget(range(len(members.params)))
        layout.measure(members, self.implementation)

    # Parameters and their state -------------------------------------------------------------------

    def _refuse_in_eval_mode(self, what: str) -> None:
        if modes.in_eval_mode(self.param_groups):
            raise RuntimeError(
                f"{what} in eval mode: the weights are averages; first call train() (or leave "
                "averaged())"
            )

    def _members(self) -> Members:
        """Return the parameters that have state, as groups and state are now.

        Others may keep state there, too: an entry without x_0 and numbers is theirs.
        """
        members = Members([], [], [])
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.get(p)
                if state and "x0" in state and "scalars" in state:
                    members.groups.append(group)
                    members.params.append(p)
                    members.states.append(state)
        return members

    def _started(self) -> Members:
        """Return the parameters that take part, after giving state to those that have none yet.

        x_0 is all that is being trained: a parameter's first gradient may come later.
        """
        members = self._members()
        self._agree()
        if len(members.params) < sum(len(group["params"]) for group in self.param_groups):
            known = set(map(id, members.params))
            new = [
                (group, p)
                for group in self.param_groups
                for p in group["params"]
                if id(p) not in known and (p.requires_grad or p.grad is not None)
            ]
            # The first step is one with a gradient somewhere; of shards, others may have it.
            elsewhere = bool(known) or self.process_group is not None
            if new and (elsewhere or any(p.grad is not None for _, p in new)):
                self._start(new, members)
                return self._members()
        return members

    @torch._disable_dynamo  # it looks at values
    def _start(self, new: list[tuple[dict[str, Any], Tensor]], members: Members) -> None:
        processes = self._processes = Processes(self._all_params(), self.process_group)
        params = [p for _, p in new]
        home = local(params[0]).device
        norms2 = [torch.linalg.vector_norm(local(p), dtype=torch.float64).square() for p in params]
        counted = [
            norm2.to(home) * processes.contributes(p)
            for norm2, p in zip(norms2, params, strict=True)
        ]
        x0_norm2 = processes.sum(torch.stack(counted))
        known: dict[Any, Tensor] = {}
        for group, p, state in zip(*members, strict=True):
            known.setdefault(self._row_of(group, p), state["scalars"])
        rows: dict[Any, list[int]] = {}
        for i, (group, p) in enumerate(new):
            rows.setdefault(self._row_of(group, p), []).append(i)
        for row, places in rows.items():
            if row not in known:
                group = new[places[0]][0]
                norm = x0_norm2[places].sum().sqrt()
                known[row] = first_row(norm, group["reps_rel"], group["eps"])
        starts = storage.compressed(params, processes)
        for (group, p), x0 in zip(new, starts, strict=True):
            state = self.state.setdefault(p, {})  # with what others keep there
            for name in self._own(p, state):
                state.pop(name, None)
            state |= {"scalars": known[self._row_of(group, p)], "x0": x0}
            self._complete(p, state)
        modes.start_buffers(self.averaging, self.param_groups[0])

    def _own(self, p: Tensor, state: Mapping[str, Any]) -> list[str]:
        """Return what a parameter's state has, by the options, beside x_0 and numbers."""
        narrow = p.dtype in storage.NARROW or "compensation" in state
        averages = self.averaging is not None
        compensates = narrow if self.compensate is None else self.compensate
        return ["average"] * averages + ["compensation"] * compensates

    def _complete(
        self, p: Tensor, state: dict[str, Tensor], saved: Mapping[str, Tensor] | None = None
    ) -> None:
        """Add what is missing in a parameter's state, as it was saved or else anew."""
        saved = saved or {}
        narrow = p.dtype in storage.NARROW
        for name in self._own(p, {**state, **saved}):
            if name not in state:
                if name == "compensation":
                    state[name] = torch.zeros_like(p, dtype=storage.rest_type(p.dtype))
                else:
                    x = p.detach().clone(memory_format=torch.preserve_format)
                    state[name] = x.float() if narrow else x
            if name in saved:
                state[name].copy_(saved[name])

    def _row_of(self, group: dict[str, Any], p: Tensor) -> int | None:
        """Return a key that is the same for parameters that share a step size."""
        if self.scope == "global":
            return None
        return id(group) if self.scope == "group" else id(p)

    def _all_params(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    def _agree(self) -> None:
        """Refuse groups that cannot share a step size."""
        for name in SHARED:
            if self.scope == "global" and _differ(self.param_groups, name):
                raise ValueError(f'scope="global" has one step size: the groups differ in {name}')

    def _bound(self, members: Members) -> Layout:
        """Return the layout, made anew where parameters or state are not those it was made from."""
        if self._layout is None or not self._layout.fits(members):
            self._layout = self._bind(members)
        return self._layout

    @torch._disable_dynamo  # it looks at addresses
    def _bind(self, members: Members) -> Layout:
        # What is made here has to outlast the inference that somebody may be about.
        with torch.inference_mode(False), torch.no_grad():
            self._processes = Processes(self._all_params(), self.process_group)
            for p, state in zip(members.params, members.states, strict=True):
                self._complete(p, state)
            keys = [self._row_of(group, p) for group, p, _ in zip(*members, strict=True)]
            averages = self.averaging is not None
            first = self.averaging is not None and self.averaging.averages_previous_iterate
            return Layout(members, keys, self._processes, averages, first)

    # Modes ----------------------------------------------------------------------------------------

    @torch.inference_mode(False)
    @torch.no_grad()
    def eval(self, batches: Iterable[Any] | None = None) -> None:
        """Put the averages in place of the weights: evaluate and save there.

        Before the first step the averages are the weights. Without ``averaging=``, or in eval mode,
        this does nothing. :meth:`state_dict` has the training weights, too, until :meth:`train`
        puts them back. FSDP2 keeps weights that it has gathered for a forward pass: give the
        averaging its ``model``, so that it lets go of them.

        Args:
            batches: inputs, or tuples that begin with them, for ``batch_norm="recompute"``.

        Raises:
            ValueError: if batches are needed and missing.
        """
        if self.averaging is None or modes.in_eval_mode(self.param_groups):
            return
        members = self._members()
        self._bound(members).set_aside(members)
        try:
            modes.put_averages_in_place(self.averaging, self.param_groups, members, batches)
        except BaseException:
            self.train()
            raise

    @torch.inference_mode(False)
    @torch.no_grad()
    def train(self) -> None:
        """Put the training weights back, bit for bit; in train mode this does nothing.

        What was written to the weights in eval mode is lost.
        """
        if not modes.in_eval_mode(self.param_groups):
            return
        members = self._members()
        modes.put_weights_back(self.averaging, self.param_groups, members)
        self._bound(members).put_back(members)

    @contextmanager
    def averaged(self, batches: Iterable[Any] | None = None) -> Iterator[None]:
        """Within, the optimizer is in eval mode: the parameters have their averaged values.

        Afterwards, also after an exception, they are as they were, bit for bit.

        Args:
            batches: those of :meth:`eval`.

        Raises:
            RuntimeError: without ``averaging=``, or in eval mode.
            ValueError: if batches are needed and missing.
        """
        if self.averaging is None:
            raise RuntimeError("there are no averages: give averaging=PolynomialDecay()")
        if modes.in_eval_mode(self.param_groups):
            raise RuntimeError("averaged() in eval mode: the averages are in place already")
        self.eval(batches)
        try:
            yield
        finally:
            self.train()

    # Telemetry ------------------------------------------------------------------------------------

    def telemetry(self) -> list[dict[str, float]]:
        """Return the numbers of the latest step, one dict for each set that shares a step size.

        In the order of groups and parameters. Keys: ``step``, ``G`` (G_t), ``rbar`` (r̄_t),
        ``rbar_sum``, ``eta`` (η_t, the step size taken), ``gradient_norm`` (‖g_t‖, weight decay
        included), ``distance`` (‖x_t − x_0‖), ``first_eta``, ``early_eta`` and ``highest_eta`` (η
        at the first step, and its largest within 100 and all steps, each where the gradient was
        not 0), ``skipped`` (steps not taken because a gradient was not finite), ``r_epsilon`` (r_ε;
        with ``init_eta`` the length of the first step), ``walk2`` (Σ η_k² ‖g_k‖², what ‖x_t − x_0‖²
        of a random walk with these steps would be) and ``fast_steps`` (in how many steps
        ``reps_rel="auto"`` made r̄ grow faster). Empty before the first step. Reading synchronises
        with the GPU; :meth:`step` does not.
        """
        columns = self._bound(self._members()).scalars.t().tolist()
        numbers = [dict(zip(SCALARS, column, strict=True)) for column in columns]
        whole = ("step", "skipped", "fast_steps")
        return [
            {name: int(value) if name in whole else value for name, value in row.items()}
            for row in numbers
            if row["step"] or row["skipped"]
        ]

    def diagnose(self) -> list[str]:
        """Return what the step sizes say is wrong, a sentence each; empty when all looks well.

        The paper's signs (section 4.1): η above 1000 within 100 steps, η that has not risen in 300
        while r̄ is within r_ε √t, and steps skipped. Of several sets that have a step size each, the
        median is looked at.
        """
        option = "reps_rel"
        if any(group["init_eta"] for group in self.param_groups):
            option = "init_eta"
        elif any(group["auto_start"] for group in self.param_groups):
            option = f'reps_rel, which "auto" sets to {AUTO_REPS_REL:g},'
        return diagnoses(self.telemetry(), option)

    # State ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state, in torch's form, for ``torch.save`` or torch.distributed.checkpoint.

        Of each parameter: ``x0``, ``average`` and ``compensation`` where there are any, and
        ``scalars``, float64 [14], the numbers of the row it belongs to, beside what others have put
        there. Of each group: its options and, to be read, ``rbar``, ``G`` and ``eta`` as in
        ``dog-optimizer``. In eval mode also the training weights; the average has another name
        then, so that torch.distributed.checkpoint does not read it into an optimizer in train mode.
        """
        # Hooks are to see what is returned.
        with _without_hooks(self, "_optimizer_state_dict_post_hooks"):
            state_dict = super().state_dict()
        entries = state_dict["state"]
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            states = [self.state.get(p, {}) for p in group["params"]]
            saved |= storage.published_numbers(states, self.scope)
            for key, p, state in zip(saved["params"], group["params"], states, strict=True):
                if "x0" in state:
                    entries[key] = entry = {**state, "x0": storage.restored(state["x0"], p)}
                    if "training_weights" in entry:
                        entry["average_in_place"] = entry.pop("average")
        for hook in self._optimizer_state_dict_post_hooks.values():
            state_dict = _either(hook(self, state_dict), state_dict)
        return state_dict

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned, here or in ``dog-optimizer``.

        Averages that the state lacks start from the present weights. The optimizer is then in the
        mode in which the state was saved; its model's weights are loaded beside it, as ever.

        Raises:
            ValueError: if the state is of other parameters, of parameters of a more precise type,
                of another scope, or of eval mode with another ``batch_norm``.
        """
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = _either(hook(self, state_dict), state_dict)
        state_dict = storage.from_published(state_dict)
        entries = storage.by_parameter(state_dict, self.param_groups)
        storage.check(entries, state_dict["param_groups"], self.param_groups, self.scope)
        modes.check_buffers(self.averaging, state_dict["param_groups"])
        # torch would round what is ours to the parameters' types, so it loads the rest, and shows
        # it to nobody.
        hooks = ("_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks")
        with _without_hooks(self, *hooks):
            super().load_state_dict(storage.without_ours(state_dict))
        for group in self.param_groups:
            group["scope"] = self.scope
            group.setdefault("auto_start", 0.0)  # dog-optimizer has none
        entries = {p: entry for p, entry in entries.items() if "x0" in entry}
        processes = Processes(self._all_params(), self.process_group)
        starts = storage.compressed(
            [entry["x0"].to(p.device) for p, entry in entries.items()], processes
        )
        for (p, entry), x0 in zip(entries.items(), starts, strict=True):
            state = self.state[p]
            state |= {"scalars": entry["scalars"].to(p.device, copy=True), "x0": x0}
            self._complete(p, state, entry)
            if "training_weights" in entry:
                state["training_weights"] = torch.empty_like(p).copy_(entry["training_weights"])
        if entries:
            modes.start_buffers(self.averaging, self.param_groups[0])
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        options = {name: getattr(self, name) for name in self._options}
        return super().__getstate__() | options

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._layout = None


@contextmanager
def _without_hooks(optimizer: Optimizer, *names: str) -> Iterator[None]:
    """Call none of these hooks within."""
    kept = {name: getattr(optimizer, name) for name in names}
    try:
        for name in names:
            setattr(optimizer, name, OrderedDict())
        yield
    finally:
        for name, hooks in kept.items():
            setattr(optimizer, name, hooks)


def _either(answer: dict[str, Any] | None, before: dict[str, Any]) -> dict[str, Any]:
    """Return what a hook makes of a state dict; None says that it has left it in place."""
    return before if answer is None else answer


def _check(options: dict[str, Any]) -> None:
    """Refuse options of a param group that are out of their range."""
    for name in ("lr", "weight_decay", "eps", "reps_rel", "init_eta"):
        value = options[name]
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"Tensor {name} must be 1-element; got one of {tuple(value.shape)}")
    for name in ("lr", "weight_decay", "eps"):
        if not options[name] >= 0:
            raise ValueError(f"{name} must not be negative; got {options[name]}")
    reps_rel, init_eta = options["reps_rel"], options["init_eta"]
    if init_eta is not None and not init_eta > 0:
        raise ValueError(f"init_eta must be positive; got {init_eta}")
    if init_eta is None and reps_rel != "auto" and (isinstance(reps_rel, str) or not reps_rel > 0):
        raise ValueError(
            f'reps_rel must be positive, or "auto"; got {reps_rel!r} (1e-6 suits most models, '
            "1e-4 those with batch normalization)"
        )


def _differ(groups: list[dict[str, Any]], name: str) -> bool:
    first = groups[0][name]  # a tensor is not compared with itself, for which the host would wait
    return any(group[name] is not first and group[name] != first for group in groups[1:])
