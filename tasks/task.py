"""The one contract between what is trained and what trains it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from hydra.utils import get_method
from torch import Tensor, nn
from torch.nn import functional

from tasks.data.blocks import required
from tasks.data.cache import Values, content_key, fingerprint
from tasks.data.digest import digest_of
from tasks.data.hub import copy_of
from tasks.data.images import Images
from tasks.data.readers import DataSet, Examples, read
from tasks.errors import NotFinite, UserError
from tasks.format import did_you_mean
from tasks.metrics import OF_CLASSES, Metrics, f1
from tasks.specs import ModelSpec, TaskSpec, TrainSpec

SPLITS = ("train", "validation", "test")

# The same held-out examples for every run of every optimizer, whatever its seed.
SPLIT_SEED = 2302


class Task(ABC):
    """A fine-tuning problem: examples in three splits, a network, a loss and a score.

    The defaults are those of classification with one label an example. All randomness comes from
    outside: :meth:`network` draws its head from torch's global generator, :meth:`batch` its
    augmentation from the generator that it is given.

    Args:
        spec: what the task's yaml says (configs/task).
        model: what the network's yaml says (configs/model).
        train: what the protocol prescribes: sizes of the splits, augmentation.
        data_dir: where data and weights are kept.

    Attributes:
        splits: the examples of "train", "validation" and "test".
        classes: names of the classes, in the order of the labels.
        origin: which copy of the data was read, where neither a checksum nor a hub says so.
    """

    origin: str | None = None
    # What `task.metric` may name; empty where `score` computes one of its own.
    metrics: ClassVar[Metrics] = OF_CLASSES
    trains_adapters: ClassVar[bool] = False  # whether model.lora is for its network

    def __init__(self, spec: TaskSpec, model: ModelSpec, train: TrainSpec, data_dir: Path) -> None:
        self.spec, self.model, self.train, self.data_dir = spec, model, train, data_dir
        self.name, self.synthetic = spec.name, spec.synthetic
        if model.lora is not None and not self.trains_adapters:
            raise UserError(
                f"model.lora={model.lora} is for networks of texts that are trained, and "
                f"task={self.name} trains none: leave it out"
            )
        metrics = list(self.metrics)
        if spec.classes != 2 or (spec.data and spec.data.is_users):
            # It is that of class 1, which is a yaml's choice: of a user's data it is any.
            metrics = [name for name in metrics if name != f1.__name__]
        if metrics and spec.metric not in metrics:
            near = did_you_mean(spec.metric, metrics)
            if spec.metric == f1.__name__ and spec.metric in self.metrics:
                near += " (f1 needs a positive class of two, which only a task's yaml can name)"
            raise UserError(f"task {self.name} has no task.metric={spec.metric}: {near}")
        self.splits, self.classes = self.load()

    @abstractmethod
    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        """Return the three splits and the classes' names, fetching what is not here yet.

        A synthetic task makes up small, learnable examples of the same form, out of nothing.
        """

    def read(self) -> DataSet:
        """Return the data set that the yaml names, fetched first if it is not here yet."""
        return read(required(self.spec.data, "task.data"), self.data_dir)

    def network(self) -> nn.Module:
        """Build the network with its pretrained weights and a new head, on the CPU."""
        return self._build(len(self.classes))

    def backbone(self) -> nn.Module:
        """Build the pretrained network without a head, on the CPU, for convex problems."""
        return self._build(0)

    def _build(self, outputs: int, *more: Any) -> nn.Module:
        build = get_method(required(self.model.target, "model._target_"))
        return build(self.model, outputs, self.data_dir, self.synthetic, *more)

    @abstractmethod
    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Any, Tensor]:
        """Return inputs as the network takes them, and targets [B, ...], of the given examples.

        With a generator the inputs are augmented as the protocol says; without one they are not.
        """

    def forward(self, network: nn.Module, inputs: Any) -> Tensor:
        """Return the network's outputs, [B, ...]: here logits, [B, classes]."""
        return network(inputs)

    def features(self, backbone: nn.Module, inputs: Any) -> Tensor:
        """Return the backbone's features of a batch, [B, D]."""
        return backbone(inputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        return functional.cross_entropy(outputs.float(), targets)

    def predict(self, network: nn.Module, inputs: Any) -> Tensor:
        """Return what the network answers to a batch, [B, ...]: here classes, int64 [B].

        Raises:
            NotFinite: if its outputs are not, so that there is no answer.
        """
        return finite(self.forward(network, inputs)).argmax(-1)

    def score(self, split: str, predictions: np.ndarray) -> float:
        """Return the task's metric of the predictions for all of a split, [N, ...]."""
        return self.metrics[self.spec.metric](predictions, self.splits[split].labels)

    def correct(self, split: str, predictions: np.ndarray) -> np.ndarray | None:
        """Return whether each prediction is right, bool [N]; None where right is no yes or no."""
        return predictions == self.splits[split].labels

    def kept(self, predictions: np.ndarray) -> list[float] | None:
        """Return the predictions as a record keeps them; None where :meth:`correct` says enough."""
        return None

    def majority(self, split: str) -> float:
        """Return the score of always answering train's most frequent class: that of divergence."""
        commonest = np.bincount(self.splits["train"].labels).argmax()
        return self.score(split, np.full(len(self.splits[split]), commonest))

    def diagnostics(
        self, network: nn.Module, telemetry: Sequence[Mapping[str, float]]
    ) -> dict[str, float]:
        """Return what else there is to tell of the last weights; here, with LoRA, their number.

        ``telemetry`` is the optimizer's own, a dict for each step size; empty if it has none.
        """
        if self.model.lora is None:
            return {}
        return {"trained_weights": sum(p.numel() for p in network.parameters() if p.requires_grad)}

    def set_training(self, network: nn.Module) -> None:
        """Put the network into training mode, with batch normalization as the protocol says.

        Frozen statistics are those of pretraining; scale and shift are trained all the same.
        """
        network.train()
        if self.model.batch_norm == "frozen":
            for module in network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def count(self, split: str) -> int:
        """Return how many examples a split has, as people count them."""
        return len(self.splits[split])

    def content(self, split: str) -> tuple[Values | Images, ...]:
        """Return all that tells a split's examples from others."""
        return self.splits[split].inputs, self.splits[split].labels

    def fingerprints(self) -> dict[str, str]:
        """Return a sha256 of the examples of each split and of the weights, and hub revisions.

        The weights' is that of their archive, or of the hub's own file; of a network of the user's
        it stands for all files of its folder.
        """
        prints = {name: fingerprint(*self.content(name)) for name in SPLITS}
        data, weights = self.spec.data, self.model.weights
        if self.synthetic or not weights:
            prints["weights"] = "random"
        elif weights.archive:
            prints["weights"] = weights.archive.sha256
        else:
            copy = copy_of(weights, self.data_dir)
            prints |= {"weights": copy.weights_sha256(), "weights_revision": copy.revision}
            if self.model.is_own and weights.path:  # whose settings and tokenizer no yaml tells
                files = digest_of(copy.folder, weights.patterns, self.data_dir, weights.path_key)
                prints["weights"] = content_key([prints["weights"], files])
        if data and data.hub and not self.synthetic:
            prints["data_revision"] = copy_of(data, self.data_dir).revision
        if self.origin:
            prints["data_revision"] = self.origin
        return prints


def finite(outputs: Tensor) -> Tensor:
    """Return a network's outputs.

    Raises:
        NotFinite: if one is infinite or no number.
    """
    if not outputs.isfinite().all():
        raise NotFinite
    return outputs


def to_device(batch: Any, device: torch.device) -> Any:
    """Move the tensors of a nest of tuples and dicts."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: to_device(value, device) for name, value in batch.items()}
    return tuple(to_device(value, device) for value in batch)


def split(data: DataSet, train: TrainSpec, name: str) -> dict[str, Examples]:
    """Divide a data set into train, validation and test, the same way every time.

    Validation is the data set's own; where it has none it comes out of the official training part,
    or, if the protocol asks for no number of examples, it is the test part itself, as papers select
    on what they report where a test part's labels are secret. Test (a fifth) comes out of training
    where the source has no official one. Then each part is cut to the protocol's size.

    Raises:
        UserError: if validation leaves nothing to train on.
    """
    order = _shuffled(data.train)
    official, test, test_order = data.train, data.test, None
    if test is None:
        held_out = len(order) // 5
        test, test_order, order = official, order[:held_out], order[held_out:]
    else:
        test_order = _shuffled(test)
    test_order = test_order[: train.test_examples]
    size = train.validation_examples
    if data.validation is not None:
        validation, validation_order = data.validation, _shuffled(data.validation)[:size]
    elif size is None:
        validation, validation_order = test, test_order
    elif size < len(order):
        validation, validation_order, order = official, order[:size], order[size:]
    else:
        raise UserError(
            f"task {name} has {len(order)} training examples, so "
            f"train.validation_examples={size} leaves none to train on: lower it"
        )
    return {
        "train": official.take(order[: train.train_examples]),
        "validation": validation.take(validation_order),
        "test": test.take(test_order),
    }


def _shuffled(examples: Examples) -> np.ndarray:
    return np.random.RandomState(SPLIT_SEED).permutation(len(examples))
