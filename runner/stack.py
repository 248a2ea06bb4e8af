"""What replicas share: networks whose tensors are slices of one, and optimizers."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from dog import PolynomialDecayAverager
from runner.run import Job, optimizer
from runner.schedule import factor
from runner.train import Training, autocast, step_size_of
from tasks.task import Task

# Tensors by their names in the network, [K, ...].
Tensors = dict[str, Tensor]


class Stack:
    """K networks of one form that see the same batches, their tensors slices of one [K, ...].

    The trainings' own networks and averages become views of it, so that whoever has a training
    sees its weights as they are; only what an averager counts comes back by :meth:`part`.

    Losses and gradients are computed for all networks at once, by ``torch.func.vmap``, if that
    gives, bit for bit, what one network after another gives (tried on the first batch, with other
    weights); else one after another. One product for all may be summed otherwise than many.
    """

    def __init__(self, task: Task, trainings: Sequence[Training], device: torch.device) -> None:
        self.task, self.trainings = task, trainings
        self.networks = [training.network for training in trainings]
        self.parameters, self.buffers = _as_views(self.networks)
        averagers = [training.averager for training in trainings]
        averages = _as_views([averager.averaged_model for averager in averagers])
        holder = _Holder(self.parameters | self.buffers)
        self.averager = PolynomialDecayAverager(holder, averagers[0].gamma)
        self.averager.av_model = _Holder(averages[0] | averages[1])
        self.averager.t = averagers[0].t
        self.losses = torch.zeros(len(trainings))  # of the latest batch, [K]
        self._alone = [_Loss(task, network, device) for network in self.networks]
        self._at_once: bool | None = None if len(trainings) > 1 else False

    def backward(self, inputs: Any, targets: Tensor) -> Tensor:
        """Compute each network's loss and gradients; return whether these are finite, bool [K]."""
        if self._at_once is None:
            self._at_once = self._agree(inputs, targets)
        if self._at_once:
            return self._backward_at_once(inputs, targets)
        return self._backward_one_by_one(inputs, targets)

    def part(self) -> None:
        """Tell each averager how far it is."""
        for training in self.trainings:
            training.averager.t = self.averager.t

    def _backward_at_once(self, inputs: Any, targets: Tensor) -> Tensor:
        def loss(parameters: Tensors, buffers: Tensors) -> Tensor:
            return functional_call(self._alone[0], parameters | buffers, (inputs, targets))

        trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
        for p in trained.values():
            p.grad = None
        losses = vmap(loss)(_within(self.parameters), _within(self.buffers))
        losses.sum().backward()
        self.losses = losses.detach()
        sums = []
        for name, p in trained.items():
            if p.grad is None:
                continue
            sums.append(p.grad.flatten(1).sum(1))
            for network, gradient in zip(self.networks, p.grad.unbind(), strict=True):
                network.get_parameter(name).grad = gradient
        return torch.stack(sums).sum(0).isfinite()

    def _backward_one_by_one(self, inputs: Any, targets: Tensor) -> Tensor:
        losses, finite = [], []
        for alone in self._alone:
            alone.zero_grad()
            loss = alone(inputs, targets)
            loss.backward()
            losses.append(loss.detach())
            sums = [p.grad.sum() for p in alone.parameters() if p.grad is not None]
            finite.append(torch.stack(sums).sum().isfinite())
        self.losses = torch.stack(losses)
        return torch.stack(finite)

    def _agree(self, inputs: Any, targets: Tensor) -> bool:
        """Whether both ways give the same bits, seen at weights that are not zero."""
        generator = torch.Generator().manual_seed(0)
        before = {name: p.detach().clone() for name, p in self.parameters.items()}
        with torch.no_grad():
            for p in self.parameters.values():
                p.copy_(torch.randn(p.shape, dtype=p.dtype, generator=generator))
        try:
            self._backward_one_by_one(inputs, targets)
            alone = self._computed()
            self._backward_at_once(inputs, targets)
            return all(_same(a, b) for a, b in zip(alone, self._computed(), strict=True))
        except RuntimeError:  # torch has no vmap of what the task computes
            return False
        finally:
            with torch.no_grad():
                for name, p in self.parameters.items():
                    p.copy_(before[name])

    def _computed(self) -> list[Tensor | None]:
        gradients = [p.grad for network in self.networks for p in network.parameters()]
        return [self.losses, *gradients]


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
        each = len(blocks) // len(groups)
        return [step_size_of(blocks[i * each : (i + 1) * each]) for i in range(len(groups))]

    def part(self) -> None:
        """Give each run's own optimizer its state."""
        states = _parted(self.optimizer.state_dict())
        for training, state in zip(self.trainings, states, strict=True):
            training.optimizer.load_state_dict(state)


def sharing(job: Job, training: Training) -> str:
    """Return a key that is the same for runs that may have one optimizer object together."""
    opt = job.settings["opt"]
    if not job.config.opt.get("independent_groups"):
        return job.identity
    # What is no option of a param group is one for the whole object.
    whole = {k: v for k, v in opt.items() if k not in training.optimizer.defaults}
    ours = {"name", "schedule", "warmup", "clip_norm"}
    rest = {name: value for name, value in whole.items() if name not in ours}
    return json.dumps([job.config.opt._target_, rest], sort_keys=True)


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


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)


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
