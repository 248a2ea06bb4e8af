"""Convex problems whose minimum is known, so that theory can be held against what a run does."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tasks.data.blocks import required
from tasks.data.readers import Examples
from tasks.errors import UserError
from tasks.metrics import Metrics
from tasks.task import SPLIT_SEED, SPLITS, Task, finite

# A minimum that was searched for is at most this far above the true one.
TOLERANCE = 1e-10


class KnownOptimum(Task):
    """Minimise f, the mean of f_i over the training examples; the score is f(x) − f*.

    The question is how low f gets, not how well anything is predicted, so validation and test are
    the training examples again. All is in float64: f − f* soon falls below what float32 resolves.

    Attributes:
        start: x_0, the parameters as one vector [P].
        minimum: f*.
        distance: d_0 = ‖x_0 − x*‖.
    """

    metrics: ClassVar[Metrics] = {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.start = parameters_to_vector(self.network().parameters()).detach()
        optimum = self.optimum()
        self.minimum = self.objective(optimum)[0]
        self.distance = torch.linalg.vector_norm(self.start - optimum).item()

    @abstractmethod
    def optimum(self) -> Tensor:
        """Return x*, a vector [P]."""

    def objective(self, x: Tensor) -> tuple[float, Tensor]:
        """Return f and its (sub)gradient [P] at a vector [P]."""
        network = self.network()
        vector_to_parameters(x, network.parameters())
        inputs, targets = self.batch("train", torch.arange(len(self.splits["train"])))
        loss = self.loss(self.forward(network, inputs), targets)
        gradient = torch.autograd.grad(loss, list(network.parameters()))
        return loss.item(), parameters_to_vector(gradient)

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        examples, places = self.splits[split], indices.numpy()
        labels = torch.from_numpy(examples.labels[places])
        # What the network answers is f_i itself, and that needs the labels.
        return (torch.from_numpy(examples.inputs[places]), labels), labels

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()

    def predict(self, network: nn.Module, inputs: Any) -> Tensor:
        return finite(self.forward(network, inputs))

    def score(self, split: str, predictions: np.ndarray) -> float:
        """Return f(x) − f*, of f_i(x), float64 [N]."""
        return float(predictions.mean()) - self.minimum

    def correct(self, split: str, predictions: np.ndarray) -> None:
        return None

    def majority(self, split: str) -> float:
        """Return f(x_0) − f*: a diverged run counts as one that never left."""
        return self.objective(self.start)[0] - self.minimum

    def diagnostics(
        self, network: nn.Module, telemetry: Sequence[Mapping[str, float]]
    ) -> dict[str, float]:
        """Return how far the run went, in the theory's terms.

        rbar is r̄ after the last step, of optimizers that have one for all parameters: the paper
        promises that T-DoG's stays within 3 d_0.
        """
        x = parameters_to_vector(network.parameters()).detach().cpu()
        distance = torch.linalg.vector_norm(x - self.start).item()
        found = {"minimum": self.minimum, "d_0": self.distance, "3 d_0": 3 * self.distance}
        if len(telemetry) == 1 and "rbar" in telemetry[0]:  # its r̄ is that of before the last step
            found["rbar"] = max(telemetry[0]["rbar"], distance)
        return {**found, "distance": distance}


class DivergenceExample(KnownOptimum):
    """The instance on which DoG's distance from its start grows without bound.

    f(x) = max_i max([x]_i, −[x]_i / √m) on R^m, [x_0]_i = 10 r_ε / √m, and the subgradient is that
    of the smallest active coordinate: r̄ after T ≤ m steps is r_ε √((T + 1) / 2), while
    d_0 = 10 r_ε (Ivgi, Hinder, Carmon 2023; the constant that they print is another).

    DoG's initial step length is r_ε = reps_rel (1 + ‖x_0‖), so r_ε = reps_rel / (1 − 10 reps_rel).
    """

    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        self.dimension = required(self.spec.dimension, "task.dimension")
        if self.dimension < self.train.steps:
            raise UserError(
                f"task.dimension={self.dimension}: the instance holds for as many steps, so it "
                f"must be at least train.steps={self.train.steps}"
            )
        prescribed = required(self.spec.prescribes, "task.prescribes")
        reps_rel = required(prescribed.reps_rel, "task.prescribes.reps_rel")["dog"]
        self.r_epsilon = reps_rel / (1 - 10 * reps_rel)
        nothing = Examples(np.zeros((1, 0)), np.zeros(1, np.int64))  # f takes no data
        return dict.fromkeys(SPLITS, nothing), ("f",)

    def network(self) -> nn.Module:
        value = 10 * self.r_epsilon / math.sqrt(self.dimension)
        return nn.ParameterList([torch.full((self.dimension,), value, dtype=torch.float64)])

    def forward(self, network: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Return f(x), the same for each of the examples, [B]."""
        (x,) = network.parameters()
        values = torch.where(x >= 0, x, -x / math.sqrt(self.dimension))
        # Not max(), whose gradient is shared by all that are equal: argmax takes the first.
        return values[values.argmax()].expand(len(inputs[1]))

    def optimum(self) -> Tensor:
        return torch.zeros_like(self.start)


class LogisticRegression(KnownOptimum):
    """Multinomial logistic regression from zero, f_i(x) = cross entropy_i + l2 / 2 ‖x‖².

    x is a linear layer's weights and biases; the L2 term makes the minimum finite and unique.
    Features [N, D] are standardised: mean 0 and variance 1, or constant 0.
    """

    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        data, self.l2 = self.read(), required(self.spec.l2, "task.l2")
        order = np.random.RandomState(SPLIT_SEED).permutation(len(data.train))
        taken = np.sort(order[: self.train.train_examples])
        features, labels = np.asarray(data.train.inputs)[taken], data.train.labels[taken]
        deviation = features.std(axis=0)
        features = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
        return dict.fromkeys(SPLITS, Examples(features, labels)), data.classes

    def network(self) -> nn.Module:
        features = np.asarray(self.splits["train"].inputs)
        layer = nn.Linear(features.shape[1], len(self.classes), dtype=torch.float64)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer

    def forward(self, network: nn.Module, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Return f_i(x) of each example, [B]."""
        features, labels = inputs
        norm2 = sum(p.square().sum() for p in network.parameters())
        entropies = functional.cross_entropy(network(features), labels, reduction="none")
        return entropies + self.l2 / 2 * norm2

    def optimum(self) -> Tensor:
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.objective(torch.from_numpy(x))
            return value, gradient.numpy()

        # f is l2-strongly convex: f(x) − f* ≤ ‖∇f(x)‖² / (2 l2).
        enough = math.sqrt(2 * self.l2 * TOLERANCE / len(self.start))  # of each coordinate
        # With scipy's threads as many as the environment says, the last digits would be others in a
        # sweep than in a run alone.
        with threadpool_limits(1, user_api="blas"):
            found = minimize(
                value_and_gradient,
                self.start.numpy(),
                jac=True,
                method="L-BFGS-B",
                options={"gtol": enough / 10, "ftol": 0, "maxcor": 50, "maxiter": 10_000},
            )
        above = float(found.jac @ found.jac) / (2 * self.l2)
        if above > TOLERANCE:
            raise UserError(
                f"task {self.name}: its minimum was not found to {TOLERANCE:g}, only to "
                f"{above:.1g}: raise task.l2"
            )
        return torch.from_numpy(found.x)
