"""Convex problems: multinomial logistic regression on the frozen features of another task."""

import numpy as np
import torch
from hydra.utils import get_class
from torch import Tensor, nn
from tqdm import tqdm

from tasks.content import cached_arrays, content_key
from tasks.readers import Examples
from tasks.task import SPLITS, Task

# Raised when the way features are computed changes, so that old ones are not found.
FEATURES_VERSION = 1


class Probe(Task):
    """A zero-initialised linear layer on features [N, D] that are computed once and cached.

    ``task.source`` is the configuration of the task whose data and network give the features. At
    x_0 = 0 DoG's first step has the absolute length ``reps_rel``.
    """

    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        source = {**self.task["source"], "synthetic": self.synthetic}
        self.source: Task = get_class(source["_target_"])(
            source, self.model, self.train, self.data_dir
        )
        self.features_of = self._features()
        return self.source.splits, self.source.classes

    def _features(self) -> dict[str, Tensor]:
        """Return the features of every split, from the cache where they are there."""
        if self.synthetic:
            return {name: torch.from_numpy(array) for name, array in self._compute().items()}
        folder = (
            self.data_dir
            / "features"
            / content_key(
                [FEATURES_VERSION, self.source.fingerprints()]
                + [self.train[name] for name in ("image_size", "max_tokens", "augment")]
                + [self.model.get(name) for name in ("arch", "mean", "std", "channels")]
            )
        )
        arrays = cached_arrays(folder, self._compute, f"compute the features of {self.name}")
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    @torch.no_grad()
    def _compute(self) -> dict[str, np.ndarray]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # made-up weights are the same for every run
            backbone = self.source.backbone().eval()
        features = {}
        for name in SPLITS:
            batches = torch.arange(len(self.source.splits[name])).split(128)
            progress = tqdm(batches, f"features of {self.name}'s {name} part", disable=None)
            inputs = (self.source.batch(name, indices)[0] for indices in progress)
            parts = [self.source.features(backbone, batch).float() for batch in inputs]
            features[name] = torch.cat(parts).numpy()
        return features

    def network(self) -> nn.Module:
        head = nn.Linear(self.features_of["train"].shape[1], len(self.classes))
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        labels = self.splits[split].labels[indices.numpy()]
        return self.features_of[split][indices], torch.from_numpy(labels)

    def fingerprints(self) -> dict[str, str]:
        return self.source.fingerprints()
