"""What replicas share: networks whose tensors are slices of one, and optimizers."""

import copy
import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer

from dog import PolynomialDecayAverager
from runner.run import Job, optimizer
from runner.schedule import factor
from runner.train import Training, autocast, step_size_of
from tasks.task import Task

logger = logging.getLogger(__name__)

# Tensors by their names in the network, [K, ...].
Tensors = dict[str, Tensor]


class Stack:
    """K networks of one form that see the same batches.

    Losses and gradients are computed for all at once, by ``torch.func.vmap`` of tensors
    [K, ...] that the networks' own and their averages then are slices of. That is, if it gives, bit
    for bit, what one network after another gives (tried at the first batch, with copies and other
    weights), for one product of matrices may be summed otherwise than many. If not, each network is
    by itself.

    Raises:
        ValueError: if the networks have dropout or batch normalization, whose random numbers and
            statistics would not be those of one alone.
    """

    def __init__(self, task: Task, trainings: Sequence[Training], device: torch.device) -> None:
        self.task, self.trainings, self.device = task, trainings, device
        self.losses = torch.zeros(len(trainings))  # of the latest batch, [K]
        self._each = [_Loss(task, training.network, device) for training in trainings]
        self._tried = len(trainings) == 1
        # Once the networks are slices of them.
        self._parameters: Tensors = {}
        self._buffers: Tensors = {}
        self._averager: PolynomialDecayAverager | None = None
        unfit = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
        if any(isinstance(module, unfit) for module in self._each[0].modules()):
            raise ValueError("networks with dropout or batch normalization cannot be replicas")

    @property
    def is_joined(self) -> bool:
        """Whether all networks are computed at once."""
        return self._averager is not None

    def backward(self, inputs: Any, targets: Tensor) -> Tensor:
        """Compute each network's loss and gradients; return whether all are finite, bool [K]."""
        if not self._tried:
            self._tried = True
            if self._agree(inputs, targets):
                self._join()
        if not self.is_joined:
            self.losses = _one_by_one(self._each, inputs, targets)
            sums = torch.stack([_sum(own.parameters()) for own in self._each])
            return (sums + self.losses).isfinite()
        self.losses = _at_once(self._each[0], self._parameters, self._buffers, inputs, targets)
        sums = self.losses.clone()
        for name, p in self._parameters.items():
            if p.grad is None:
                continue
            sums += p.grad.flatten(1).sum(1)
            for own, gradient in zip(self._each, p.grad.unbind(), strict=True):
                own.network.get_parameter(name).grad = gradient
        return sums.isfinite()

    def average(self) -> None:
        """Take the weights into the averages."""
        if self._averager is not None:
            self._averager.step()
            return
        for training in self.trainings:
            training.averager.step()

    def part(self) -> None:
        """Tell each training's averager how far it is."""
        if self._averager is not None:
            for training in self.trainings:
                training.averager.t = self._averager.t

    def _agree(self, inputs: Any, targets: Tensor) -> bool:
        """Whether both ways give the same bits."""
        copies = [copy.deepcopy(own.network) for own in self._each]
        generator = torch.Generator().manual_seed(0)
        for network in copies:
            for p in network.parameters():  # at a start of zeros, all ways would seem the same
                p.data.copy_(torch.randn(p.shape, dtype=p.dtype, generator=generator))
        each = [_Loss(self.task, network, self.device) for network in copies]
        parameters, buffers = stack_module_state(copies)
        alone = _one_by_one(each, inputs, targets)
        try:
            together = _at_once(each[0], parameters, buffers, inputs, targets)
        except RuntimeError:  # torch has no vmap of what the task computes
            return False
        gradients = [
            (network.get_parameter(name).grad, gradient)
            for name, p in parameters.items()
            if p.grad is not None
            for network, gradient in zip(copies, p.grad.unbind(), strict=True)
        ]
        return torch.equal(alone, together) and all(
            one is not None and torch.equal(one, other) for one, other in gradients
        )

    def _join(self) -> None:
        """Make the networks and their averages slices of one tensor each."""
        self._parameters, self._buffers = _as_views([own.network for own in self._each])
        averagers = [training.averager for training in self.trainings]
        parameters, buffers = _as_views([averager.averaged_model for averager in averagers])
        holder = _Holder(self._parameters | self._buffers)
        self._averager = PolynomialDecayAverager(holder, averagers[0].gamma)
        self._averager.av_model = _Holder(parameters | buffers)
        self._averager.t = averagers[0].t


def _one_by_one(each: "Sequence[_Loss]", inputs: Any, targets: Tensor) -> Tensor:
    """Return each network's loss, [K], and leave its gradients at its parameters."""
    losses = []
    for own in each:
        own.zero_grad()
        loss = own(inputs, targets)
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses)


def _at_once(
    form: "_Loss", parameters: Tensors, buffers: Tensors, inputs: Any, targets: Tensor
) -> Tensor:
    """Return the loss of each of K networks, [K], and leave the gradients at the parameters."""

    def loss(parameters: Tensors, buffers: Tensors) -> Tensor:
        return functional_call(form, parameters | buffers, (inputs, targets))

    for p in parameters.values():
        p.grad = None
    losses = vmap(loss)(_within(parameters), _within(buffers))
    losses.sum().backward()
    return losses.detach()


class SharedOptimizer:
    """One optimizer for several runs, a param group each; its groups must not touch each other."""

    def __init__(self, jobs: Sequence[Job], trainings: Sequence[Training]) -> None:
        self.jobs, self.trainings = jobs, trainings
        self.optimizer = optimizer(jobs[0], trainings[0].network)
        owns = [training.optimizer for training in trainings]
        for own in owns[1:]:
            self.optimizer.add_param_group({**own.param_groups[0]})
        for own, group in zip(owns, self.optimizer.param_groups, strict=True):
            own.param_groups[0].setdefault("initial_lr", own.param_groups[0]["lr"])
            group.update({k: v for k, v in own.param_groups[0].items() if k != "params"})
        if any(own.state for own in owns):
            self.optimizer.load_state_dict(_joined([own.state_dict() for own in owns]))

    def step(self, steps: int) -> None:
        """Make each run's step, with the learning rate that its schedule has for it."""
        for job, training, group in zip(
            self.jobs, self.trainings, self.optimizer.param_groups, strict=True
        ):
            opt = job.settings["opt"]
            now = factor(training.step, steps, opt["schedule"], opt["warmup"])
            group["lr"] = group["initial_lr"] * now
            if opt["clip_norm"] is not None:
                nn.utils.clip_grad_norm_(training.network.parameters(), opt["clip_norm"])
        self.optimizer.step()

    def numbers(self) -> list[dict[str, float]]:
        """Return what each run logs of its optimizer."""
        groups = self.optimizer.param_groups
        telemetry = getattr(self.optimizer, "telemetry", None)
        if telemetry is None:
            return [{"lr": group["lr"]} for group in groups]
        blocks = telemetry()
        each, rest = divmod(len(blocks), len(groups))
        assert not rest, "each run has as many step sizes as the next"
        return [step_size_of(blocks[i * each : (i + 1) * each]) for i in range(len(groups))]

    def part(self) -> None:
        """Give each run's own optimizer its state."""
        states = _parted(self.optimizer.state_dict())
        for training, state in zip(self.trainings, states, strict=True):
            training.optimizer.load_state_dict(state)


def sharing(job: Job, training: Training) -> str:
    """Return a key that is the same for runs that may have one optimizer object together.

    Where its yaml says that groups are independent it is tried, for who copies a yaml copies that.
    """
    opt = job.config.spec.opt
    if not opt.independent_groups:
        return job.identity
    # What is no option of a param group is one for the whole object.
    given, options = opt.arguments, training.optimizer.defaults
    whole = {name: value for name, value in given.items() if name not in options}
    key = json.dumps([opt.target, whole], sort_keys=True)
    if key not in _independent:
        _independent[key] = groups_are_independent(type(training.optimizer), given)
        if not _independent[key]:
            line = "one param group changes another's steps, whatever independent_groups says"
            logger.warning(
                "opt=%s: %s: each of its runs has an optimizer of its own", opt.name, line
            )
    return key if _independent[key] else job.identity


# What was found of a class with its arguments.
_independent: dict[str, bool] = {}


def groups_are_independent(kind: type[Optimizer], given: Mapping[str, Any]) -> bool:
    """Return whether each of two groups steps, bit for bit, as it does in an optimizer of its own.

    Groups that share a number, such as a step size found from all gradients, do not.
    """

    def groups() -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        return [
            {"params": [nn.Parameter(torch.randn(n, 3, generator=generator)) for n in (5, 1)]}
            for _ in range(2)
        ]

    def ends(optimizers: Sequence[Optimizer], slopes: Sequence[Tensor]) -> list[Tensor]:
        """Return the parameters after steps along gradients that change little."""
        both = [group for each in optimizers for group in each.param_groups]
        parameters = [p for group in both for p in group["params"]]
        for multiple, group in zip((1, 2), both, strict=True):
            if isinstance(group.get("lr"), float):
                group["lr"] *= multiple
        for step in range(10):
            for p, slope in zip(parameters, slopes, strict=True):
                p.grad = slope * (1 + 0.1 * step)
            for each in optimizers:
                each.step()
        return parameters

    # Those of one group are much larger.
    slopes = [
        p.detach() * size
        for group, size in zip(groups(), (1, 100), strict=True)
        for p in group["params"]
    ]
    try:
        with warnings.catch_warnings(action="ignore"):  # of several groups, which are meant
            together = ends([kind(groups(), **given)], slopes)
            alone = ends([kind([group], **given) for group in groups()], slopes)
    except Exception as error:  # of a class that others wrote
        logger.warning("%s with two param groups: %s", kind.__name__, error)
        return False
    return all(map(torch.equal, together, alone))


class _Loss(nn.Module):
    """A network's loss as a module, whose tensors ``functional_call`` can replace."""

    def __init__(self, task: Task, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.task, self.network, self.device = task, network, device

    def forward(self, inputs: Any, targets: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar."""
        with autocast(self.device, self.task.train["precision"]):
            return self.task.loss(self.task.forward(self.network, inputs), targets)


class _Holder(nn.Module):
    """Tensors in a module of their own, as an averager wants them."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "/"), tensor.detach())


def _as_views(networks: Sequence[nn.Module]) -> tuple[Tensors, Tensors]:
    """Stack the networks' parameters and buffers, of which their own become views."""
    stacked = stack_module_state(list(networks))
    for tensors in stacked:
        for name, tensor in tensors.items():
            for network, part in zip(networks, tensor.detach().unbind(), strict=True):
                _tensor(network, name).data = part
    return stacked


def _tensor(network: nn.Module, name: str) -> Tensor:
    """Return a parameter or a buffer by its name."""
    module, _, last = name.rpartition(".")
    return getattr(network.get_submodule(module), last)


def _within(tensors: Tensors) -> Tensors:
    """Return the tensors under the names that they have within a :class:`_Loss`."""
    return {f"network.{name}": tensor for name, tensor in tensors.items()}


def _sum(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the sum of all gradients, which is finite if they are."""
    return torch.stack([p.grad.sum() for p in parameters if p.grad is not None]).sum()


def _joined(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the state of one optimizer with the groups of several that have one each."""
    entries: dict[int, Any] = {}
    groups: list[dict[str, Any]] = []
    for state in states:
        (group,), first = state["param_groups"], sum(len(group["params"]) for group in groups)
        groups.append({**group, "params": [first + place for place in group["params"]]})
        entries |= {first + place: entry for place, entry in state["state"].items()}
    return {**states[0], "state": entries, "param_groups": groups}


def _parted(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the states that :func:`_joined` would join."""
    states = []
    for group in state["param_groups"]:
        places = {place: new for new, place in enumerate(group["params"])}
        entries = {places[k]: entry for k, entry in state["state"].items() if k in places}
        own = {**group, "params": list(places.values())}
        states.append({**state, "state": entries, "param_groups": [own]})
    return states
