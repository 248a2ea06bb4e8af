"""Image classification: uint8 images, decoded, resized, augmented and normalised by the batch."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.data.blocks import required
from tasks.data.images import Images
from tasks.data.readers import DataSet, Examples
from tasks.errors import UserError, reason
from tasks.task import Task, split

# Evaluation of inception-cropped training looks at the middle of the image (the paper's .875).
CENTRE = 0.875
CROPPED = ("crop", "natural", "natural_unflipped")


class ImageClassification(Task):
    """Images of uint8, [N, H, W, C] or of many sizes, and one label each; C is 1 (grey) or 3."""

    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        data = self._made_up() if self.synthetic else self.read()
        self.origin = data.origin
        return split(data, self.train, self.name), data.classes

    def _build(self, outputs: int, *more: Any) -> nn.Module:
        network: Any = super()._build(outputs, *more)
        if self.model.is_own:  # not every network takes every size of images
            size = required(self.train.image_size, "train.image_size")
            try:
                with torch.no_grad():
                    network.eval()(torch.zeros(1, 3, size, size))
            except Exception as error:  # each says it otherwise
                own = network.pretrained_cfg["input_size"][-1]
                raise UserError(
                    f"model={self.model.name} takes no images of {size} pixels a side "
                    f"({reason(error)}): say train.image_size={own}, which it was made for"
                ) from error
        return network

    def _made_up(self) -> DataSet:
        classes = required(self.spec.classes, "task.classes")
        generator = np.random.RandomState(0)
        height, width, channels = required(self.spec.shape, "task.shape")
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
        groups = _groups(examples.inputs, indices.numpy())
        with _lent(generator):
            prepared = [self._prepared(group, generator) for group in groups]
        images = torch.cat(prepared) if len(prepared) > 1 else prepared[0]
        return self._normalise(images), torch.from_numpy(examples.labels[indices.numpy()])

    def _prepared(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return images [B, 3, H, W] of one size as the network's [B, 3, size, size], in 0..255."""
        size, augment = required(self.train.image_size, "train.image_size"), self.train.augment
        if augment == "timm":
            if generator is None:
                return _each(images, _timm(size, False, self.interpolation, self.model.crop_pct))
            return _each(images, _timm(size, True, "random", None))
        if augment in CROPPED:
            if generator is None:
                return _centre(
                    _resize_shorter(images, round(size / CENTRE), self.interpolation), size
                )
            return _each(images, _cropping(size, augment))
        images = _resize(images, size, size, self.interpolation)
        if generator is None or augment == "none":
            return images
        return _flip(images, generator) if augment == "flip" else _each(images, _padded_crop(size))

    @property
    def interpolation(self) -> str:
        """Of all resizing in evaluation: that of the network's own configuration, where it counts.

        That is with timm's augmentation, and of a network that the user chose.
        """
        counts = self.model.is_own or self.train.augment == "timm"
        return (counts and self.model.interpolation) or "bilinear"

    def _normalise(self, images: Tensor) -> Tensor:
        """Turn values in 0..255 into what the network was pretrained on, in their own memory."""
        images = images.contiguous(memory_format=torch.channels_last)
        if self.model.channels == "bgr":
            images = images.flip(1)
        mean, std = required(self.model.mean, "model.mean"), required(self.model.std, "model.std")
        width = images.shape[-1]
        return images.sub_(_row(mean, width)).div_(_row(std, width))


def _row(channels: Sequence[float], width: int) -> Tensor:
    """Return one number a channel as a row of pixels, [1, 3, 1, width], in the images' layout.

    Long rows make arithmetic with images ten times as fast as rows of three numbers.
    """
    row = torch.tensor(channels).view(1, 3, 1, 1).expand(-1, -1, -1, width)
    return row.contiguous(memory_format=torch.channels_last)


def _groups(inputs: Any, indices: np.ndarray) -> Iterator[Tensor]:
    """Yield images [B, 3, H, W], those of one size together: all of an array, else one by one."""
    if isinstance(inputs, Images):
        groups: Any = (inputs[index][None] for index in indices)
    else:
        groups = (inputs[indices],)
    for group in groups:
        yield torch.from_numpy(group).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)


@contextmanager
def _lent(generator: torch.Generator | None) -> Iterator[None]:
    """Seed the global generators by ours: torchvision and timm draw from them alone."""
    if generator is None:
        yield
        return
    before = random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())
        random.seed(generator.initial_seed())
        try:
            yield
        finally:
            random.setstate(before)


def _resize(images: Tensor, height: int, width: int, mode: str) -> Tensor:
    images = images.float()
    if images.shape[-2:] == (height, width):
        return images
    # Bicubic is another formula without it, and not the one of torchvision's and timm's.
    antialias = mode != "bilinear" or height < images.shape[-2] or width < images.shape[-1]
    return functional.interpolate(
        images, (height, width), mode=mode, align_corners=False, antialias=antialias
    )


def _resize_shorter(images: Tensor, size: int, mode: str) -> Tensor:
    """Resize so that the shorter side is `size`; the sides keep their proportion."""
    scale = size / min(images.shape[-2:])
    height, width = (round(side * scale) for side in images.shape[-2:])
    return _resize(images, height, width, mode)


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the images, in their own memory."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    images[flipped] = images[flipped].flip(-1)
    return images


def _centre(images: Tensor, size: int) -> Tensor:
    top, left = ((side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def _each(images: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Transform each image by itself, with random numbers of its own."""
    return torch.stack([transform(image) for image in images]).float()


@cache
def _cropping(size: int, augment: str) -> Callable[[Tensor], Tensor]:
    """Inception crop; natural images' colour jitter 0.4 and flip, as the paper's appendix B."""
    from torchvision.transforms import v2

    parts: list[Any] = [
        v2.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), antialias=True)
    ]
    if augment != "crop":
        parts.append(v2.ColorJitter(0.4, 0.4, 0.4))
    if augment != "natural_unflipped":
        parts.append(v2.RandomHorizontalFlip())
    return v2.Compose(parts)


@cache
def _padded_crop(size: int) -> Callable[[Tensor], Tensor]:
    """Crop out of a margin of 4 black pixels, and flip, as is usual for CIFAR from scratch."""
    from torchvision.transforms import v2

    return v2.Compose([v2.RandomCrop(size, padding=4), v2.RandomHorizontalFlip()])


@cache
def _timm(size: int, training: bool, interpolation: str, crop_pct: float | None) -> Any:
    """Return timm's default augmentation, or the evaluation its network was published with."""
    from timm.data import create_transform
    from torchvision.transforms import v2

    transform = create_transform(
        size, training, interpolation=interpolation, crop_pct=crop_pct, normalize=False
    )
    return v2.Compose([v2.ToPILImage(), transform])
