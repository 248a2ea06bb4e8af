"""Convex problems: multinomial logistic regression on the frozen features of another task."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import get_class
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from tasks.data.blocks import NO_FEATURES, required
from tasks.data.cache import cached_files, content_key, versions
from tasks.data.digest import digest_of
from tasks.data.hub import copy_of
from tasks.data.readers import Examples
from tasks.task import SPLITS, Task, to_device

# Raised when the way features are computed changes, so that old ones are not found.
FEATURES_VERSION = 1


class Probe(Task):
    """A zero-initialised linear layer on features [N, D] that are computed once and cached.

    ``task.source`` describes the task whose data and network give the features. At
    x_0 = 0 DoG's first step has the absolute length ``reps_rel``.
    """

    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        source = required(self.spec.source, "task.source")
        source = source.replaced(data=self.spec.data_read, synthetic=self.synthetic)
        self.source: Task = get_class(source.target)(source, self.model, self.train, self.data_dir)
        self.features_of = self._features()
        return self.source.splits, self.source.classes

    def _features(self) -> dict[str, Tensor]:
        """Return the features of every split, from the cache where they are there."""
        if self.synthetic:
            backbone = self._backbone()
            return {
                name: torch.cat([part for _, part in self._computed(backbone, name)])
                for name in SPLITS
            }
        folder = self.data_dir / "features" / content_key(self._dependencies())
        arrays = cached_files(folder, self._write, f"compute the features of {self.name}")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _dependencies(self) -> list[Any]:
        """Return all that the features depend on, as json can hold it.

        Data and weights are told by their content. Features are computed in float32 whatever
        train.precision says. The number of threads, which may change last bits, is left out: each
        would compute them anew.
        """
        gpu, train = _device().type == "cuda", self.train
        sizes = {"image_size": train.image_size, "max_tokens": train.max_tokens}
        return [
            FEATURES_VERSION,
            self.source.fingerprints(),
            self._copies(),
            self.source.spec.plain(NO_FEATURES),
            self.model.plain(NO_FEATURES),
            {**sizes, "augment": train.augment},
            torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability(),
            versions(
                "torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "pillow"
            ),
        ]

    def _copies(self) -> list[str]:
        """Return digests of what fingerprints tell by names and sizes alone, or by a part of it.

        These are the user's images, and the files beside the weights: settings and tokenizer.
        """
        data, weights = self.source.spec.data, self.model.weights
        found = []
        if data and not data.is_pinned and (path := data.copy_of_user(self.data_dir)):
            found.append(digest_of(path, data.patterns, self.data_dir, data.path_key))
        if weights and not weights.archive:
            folder = copy_of(weights, self.data_dir).folder
            found.append(digest_of(folder, weights.patterns, self.data_dir, weights.path_key))
        return found

    def _write(self, folder: Path) -> None:
        """Write the features as they come: those of a large data set are larger than memory."""
        backbone = self._backbone()
        for name in SPLITS:
            array = None
            for indices, part in self._computed(backbone, name):
                if array is None:
                    shape = (len(self.source.splits[name]), part.shape[1])
                    array = np.lib.format.open_memmap(
                        folder / f"{name}.npy", "w+", np.float32, shape
                    )
                array[indices.numpy()] = part.numpy()

    def _backbone(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # made-up weights are the same for every run
            return self.source.backbone().eval().to(_device())

    @torch.no_grad()
    def _computed(self, backbone: nn.Module, name: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield indices and features of a split's examples, batch by batch."""
        batches = torch.arange(len(self.source.splits[name])).split(128)
        for indices in tqdm(batches, f"features of {self.name}'s {name} part", disable=None):
            inputs = to_device(self.source.batch(name, indices)[0], _device())
            yield indices, self.source.features(backbone, inputs).float().cpu()

    def network(self) -> nn.Module:
        head = nn.Linear(self.features_of["train"].shape[1], len(self.classes))
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def forward(self, network: nn.Module, inputs: Tensor) -> Tensor:
        # Weight first: twice as fast for few classes, and summed in the same order for the weights
        # of one network as for those of many in one product (sweeps/replicas.py).
        weight, bias = network.parameters()
        return torch.mm(weight, inputs.t()).t() + bias

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        # Not cross_entropy's own mean, which is another sum for one network than for many.
        return functional.cross_entropy(outputs.float(), targets, reduction="none").mean()

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        labels = self.splits[split].labels[indices.numpy()]
        return self.features_of[split][indices], torch.from_numpy(labels)

    def fingerprints(self) -> dict[str, str]:
        return self.source.fingerprints()


def _device() -> torch.device:
    """A GPU if there is one, whatever trains the probe: a large network is slow without."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
