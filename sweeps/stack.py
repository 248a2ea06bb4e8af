"""What replicas share: networks whose tensors are slices of one tensor, and optimizers."""

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
from runner.evaluation import autocast
from runner.optimizer import build_optimizer, step_sizes, summary
from runner.run import Job
from runner.schedule import set_learning_rates
from runner.training_state import TrainingState
from tasks.task import Task

logger = logging.getLogger(__name__)

# Bytes that the memory of torch's tensors begins at a multiple of.
ALIGNMENT = 64
# Tensors by their names in the network, [K, ...].
Tensors = dict[str, Tensor]


class Stack:
    """K networks of one form that see the same batches.

    The networks are either joined or separate. Joined networks have their weights, and their
    averages, as slices of tensors [K, ...], and ``torch.func.vmap`` computes all losses and
    gradients at once. Separate networks are computed one after another. They are joined only if
    both ways give the same bits, as one large matrix product may sum in another order than K small
    ones: the first batch decides, with random weights.

    Raises:
        ValueError: if the networks have dropout or batch normalization, whose random numbers and
            statistics would not be those of a network alone.
    """

    def __init__(self, task: Task, states: Sequence[TrainingState]) -> None:
        self.task, self.states, self.device = task, states, states[0].device
        self.losses = torch.zeros(len(states))  # of the latest batch, [K]
        self._networks = [_Loss(task, state.network, self.device) for state in states]
        self._averagers = [state.averager for state in states if state.averager is not None]
        self._compared = len(states) == 1
        # Of joined networks.
        self._parameters: Tensors = {}
        self._buffers: Tensors = {}
        self._averager: PolynomialDecayAverager | None = None
        unfit = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
        if any(isinstance(module, unfit) for module in self._networks[0].modules()):
            raise ValueError("networks with dropout or batch normalization cannot be replicas")

    @property
    def is_joined(self) -> bool:
        """Whether all networks are computed at once."""
        return self._averager is not None

    def backward(self, inputs: Any, targets: Tensor) -> Tensor:
        """Compute each network's loss and gradients; return whether all are finite, bool [K]."""
        if not self._compared:
            self._compared = True
            if self._same_when_joined(inputs, targets):
                self._join()
        if not self.is_joined:
            self.losses = _one_by_one(self._networks, inputs, targets)
            sums = torch.stack([_sum(network.parameters()) for network in self._networks])
            return (sums + self.losses).isfinite()
        self.losses = _at_once(self._networks[0], self._parameters, self._buffers, inputs, targets)
        sums = self.losses.clone()
        for name, p in self._parameters.items():
            if p.grad is None:
                continue
            sums += p.grad.flatten(1).sum(1)
            for state, gradient in zip(self.states, p.grad.unbind(), strict=True):
                state.network.get_parameter(name).grad = _aligned(gradient)
        return sums.isfinite()

    def average(self) -> None:
        """Take the weights into the averages."""
        if self._averager is not None:
            self._averager.step()
            return
        for averager in self._averagers:
            averager.step()

    def write_back(self) -> None:
        """Write the number of averaged steps to each state's averager; the rest is there."""
        if self._averager is not None:
            for averager in self._averagers:
                averager.t = self._averager.t

    def _same_when_joined(self, inputs: Any, targets: Tensor) -> bool:
        """Return whether joined networks give the same bits as separate ones."""
        copies = [copy.deepcopy(network.network) for network in self._networks]
        generator = torch.Generator().manual_seed(0)
        for network in copies:
            for p in network.parameters():  # with weights of 0 any two ways give the same
                p.data.copy_(torch.randn(p.shape, dtype=p.dtype, generator=generator))
        losses = [_Loss(self.task, network, self.device) for network in copies]
        parameters, buffers = stack_module_state(copies)
        separate = _one_by_one(losses, inputs, targets)
        try:
            joined = _at_once(losses[0], parameters, buffers, inputs, targets)
        except RuntimeError:  # torch has no vmap of what the task computes
            return False
        gradients = [
            (network.get_parameter(name).grad, gradient)
            for name, p in parameters.items()
            if p.grad is not None
            for network, gradient in zip(copies, p.grad.unbind(), strict=True)
        ]
        return torch.equal(separate, joined) and all(
            first is not None and torch.equal(first, second) for first, second in gradients
        )

    def _join(self) -> None:
        """Make the networks and their averages slices of one tensor each."""
        self._parameters, self._buffers = _as_views([state.network for state in self.states])
        parameters, buffers = _as_views([each.averaged_model for each in self._averagers])
        holder = _Holder(self._parameters | self._buffers)
        self._averager = PolynomialDecayAverager(holder, self._averagers[0].gamma)
        self._averager.av_model = _Holder(parameters | buffers)
        self._averager.t = self._averagers[0].t


def _one_by_one(networks: "Sequence[_Loss]", inputs: Any, targets: Tensor) -> Tensor:
    """Return each network's loss, [K], and leave its gradients at its parameters."""
    losses = []
    for network in networks:
        network.zero_grad()
        loss = network(inputs, targets)
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
    """One optimizer for several runs, a param group each; groups must not touch each other."""

    def __init__(self, jobs: Sequence[Job], states: Sequence[TrainingState]) -> None:
        self.jobs, self.states = jobs, states
        self.optimizer = build_optimizer(jobs[0].spec.opt, states[0].network)
        optimizers = [state.optimizer for state in states]
        for other in optimizers[1:]:
            self.optimizer.add_param_group({**other.param_groups[0]})
        for each, group in zip(optimizers, self.optimizer.param_groups, strict=True):
            group.update({k: v for k, v in each.param_groups[0].items() if k != "params"})
        if any(each.state for each in optimizers):
            self.optimizer.load_state_dict(_joined([each.state_dict() for each in optimizers]))

    def step(self) -> None:
        """Step each run, with the learning rate that its schedule has for this step."""
        for job, state, group in zip(
            self.jobs, self.states, self.optimizer.param_groups, strict=True
        ):
            opt = job.spec.opt
            set_learning_rates([group], opt, state.step, job.spec.train.steps)
            if opt.clip_norm is not None:
                nn.utils.clip_grad_norm_(state.network.parameters(), opt.clip_norm)
        self.optimizer.step()

    def numbers(self) -> list[dict[str, float]]:
        """Return what each run logs of its optimizer."""
        rows = step_sizes(self.optimizer, self.jobs[0].spec.opt)
        count, rest = divmod(len(rows), len(self.jobs))
        assert not rest, "each run has as many step sizes as the next"
        return [summary(rows[i * count : (i + 1) * count]) for i in range(len(self.jobs))]

    def write_back(self) -> None:
        """Write the shared optimizer's state to the optimizer of each run."""
        optimizer_states = _split(self.optimizer.state_dict())
        for state, optimizer_state in zip(self.states, optimizer_states, strict=True):
            state.optimizer.load_state_dict(optimizer_state)


def sharing(job: Job, state: TrainingState) -> str:
    """Return a key that is the same for runs that may share one optimizer object.

    Where the optimizer's yaml says that groups are independent, that is tried: who copies a yaml
    copies the claim.
    """
    opt = job.spec.opt
    if not opt.independent_groups:
        return job.spec.run_id
    # An argument that is no option of a param group holds for the whole object.
    given, options = opt.arguments, state.optimizer.defaults
    of_object = {name: value for name, value in given.items() if name not in options}
    key = json.dumps([opt.target, of_object], sort_keys=True)
    if key not in _independent:
        _independent[key] = groups_are_independent(type(state.optimizer), given)
        if not _independent[key]:
            line = "one param group changes another's steps, whatever independent_groups says"
            logger.warning(
                "opt=%s: %s: each of its runs has an optimizer of its own", opt.name, line
            )
    return key if _independent[key] else job.spec.run_id


# Whether the param groups of an optimizer class with its arguments are independent, as tried.
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

    # The gradients of one group are much larger.
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
        with autocast(self.device, self.task.train.precision):
            return self.task.loss(self.task.forward(self.network, inputs), targets)


class _Holder(nn.Module):
    """Holds tensors in a module, as an averager wants them."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            held = tensor.detach().requires_grad_(tensor.requires_grad)
            self.register_buffer(name.replace(".", "/"), held)


def _as_views(networks: Sequence[nn.Module]) -> tuple[Tensors, Tensors]:
    """Stack the networks' parameters and buffers; those of each network become views of them."""
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


def _aligned(gradient: Tensor) -> Tensor:
    """Return a slice as memory of its own has it: BLAS sums otherwise where it begins elsewhere."""
    return gradient if gradient.data_ptr() % ALIGNMENT == 0 else gradient.clone()


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
        # What is no parameter's is the optimizer's own, such as a step size of all.
        entries |= {
            first + key if key in group["params"] else key: entry
            for key, entry in state["state"].items()
        }
    return {**states[0], "state": entries, "param_groups": groups}


def _split(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the states that :func:`_joined` would join to this one."""
    states = []
    everywhere = {place for group in state["param_groups"] for place in group["params"]}
    for group in state["param_groups"]:
        places = {place: new for new, place in enumerate(group["params"])}
        entries = {
            places.get(key, key): entry
            for key, entry in state["state"].items()
            if key in places or key not in everywhere
        }
        renumbered = {**group, "params": list(places.values())}
        states.append({**state, "state": entries, "param_groups": [renumbered]})
    return states
