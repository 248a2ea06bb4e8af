"""Image classification: uint8 images in memory, resized, augmented and normalised by the batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tasks.readers import DataSet, Examples, read
from tasks.task import Task, split

# Evaluation of inception-cropped training looks at the middle of the image (the paper's .875).
CENTRE = 0.875


class ImageClassification(Task):
    """Images [N, H, W, C] of uint8 and one label each; C is 1 (grey) or 3."""

    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        data = self._made_up() if self.synthetic else read(self.task["data"], self.data_dir)
        return split(data, self.train, self.name), data.classes

    def _made_up(self) -> DataSet:
        classes = self.task["classes"]
        generator = np.random.RandomState(0)
        height, width, channels = self.task["shape"]
        colours = generator.randint(0, 256, (classes, 1, 1, channels))

        def examples(count: int) -> Examples:
            labels = np.arange(count) % classes
            noise = generator.randint(-64, 65, (count, height, width, channels))
            return Examples(np.clip(colours[labels] + noise, 0, 255).astype(np.uint8), labels)

        return DataSet(examples(96), examples(64), tuple(str(i) for i in range(classes)))

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        examples = self.splits[split]
        images = torch.from_numpy(examples.inputs[indices.numpy()]).permute(0, 3, 1, 2)
        if images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        size, augment = self.train["image_size"], self.train["augment"]
        if generator is not None and augment == "natural":
            images = _natural(images, size, generator)
        elif augment == "natural":
            images = _centre(_resize(images, round(size / CENTRE)), size)
        else:
            images = _resize(images, size)
            if generator is not None and augment == "flip":
                images = _flip(images, generator)
        return self._normalise(images), torch.from_numpy(examples.labels[indices.numpy()])

    def _normalise(self, images: Tensor) -> Tensor:
        """Turn values in 0..255 into what the network was pretrained on."""
        if self.model["channels"] == "bgr":
            images = images.flip(1)
        mean = torch.tensor(self.model["mean"]).view(1, 3, 1, 1)
        std = torch.tensor(self.model["std"]).view(1, 3, 1, 1)
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _resize(images: Tensor, size: int) -> Tensor:
    images = images.float()
    if images.shape[-2:] == (size, size):
        return images
    shrinks = size < images.shape[-1]
    return functional.interpolate(
        images, (size, size), mode="bilinear", align_corners=False, antialias=shrinks
    )


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    flipped: Any = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)


def _centre(images: Tensor, size: int) -> Tensor:
    top = (images.shape[-1] - size) // 2
    return images[..., top : top + size, top : top + size]


def _natural(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Inception crop, colour jitter 0.4 and flip, as the paper's natural images (appendix B)."""
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), antialias=True),
            v2.ColorJitter(0.4, 0.4, 0.4),
            v2.RandomHorizontalFlip(),
        ]
    )
    # torchvision draws from the global generator alone, so lend it ours for the moment.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())
        return torch.stack([transform(image) for image in images]).float()
