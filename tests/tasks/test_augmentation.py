"""Augmentation: what may change in an image that is trained on, and what evaluation sees."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from runner import config
from tasks.data.images import Images
from tasks.data.readers import Examples
from tasks.specs import Augment, ModelSpec, TaskSpec, TrainSpec
from tasks.vision import ImageClassification


class Pictures(ImageClassification):
    """Eight images of the given shape, made of columns that grow brighter to the right."""

    shape = (48, 64, 3)
    lazy = False

    def load(self):
        ramp = np.linspace(0, 255, self.shape[1]).astype(np.uint8)
        image = np.broadcast_to(ramp[None, :, None], self.shape)
        arrays = np.stack([image] * 8)
        lazy = Images(range(8), arrays.__getitem__, list)
        inputs = lazy if self.lazy else arrays
        examples = Examples(inputs, np.zeros(8, dtype=np.int64))
        return dict.fromkeys(("train", "validation", "test"), examples), ("one",)


class LazyPictures(Pictures):
    """The same, decoded when they are asked for."""

    lazy = True


class Orange(Pictures):
    """Eight images of one colour, which no crop and no flip changes."""

    def load(self):
        image = np.broadcast_to(np.array([200, 120, 40], dtype=np.uint8), self.shape)
        examples = Examples(np.stack([image] * 8), np.zeros(8, dtype=np.int64))
        return dict.fromkeys(("train", "validation", "test"), examples), ("one",)


def augmented(augment, training=True, size=32, seed=0, kind=LazyPictures):
    """The batch in 0..255, [8, 3, size, size]."""
    spec = TaskSpec.model_construct(name="x", synthetic=False, metric="accuracy")
    model = ModelSpec.model_construct(name="x", channels="rgb", mean=[0.0] * 3, std=[1.0] * 3)
    train = TrainSpec.model_construct(image_size=size, augment=augment)
    problem = kind(spec, model, train, Path())
    generator = torch.Generator().manual_seed(seed) if training else None
    return problem.batch("train", torch.arange(8), generator)[0]


def rises(images):
    """Whether brightness grows to the right, for each image."""
    return (images[:, 0, :, -1].mean(1) > images[:, 0, :, 0].mean(1)).tolist()


CHOICES = get_args(Augment)
FLIPS = {"flip", "crop", "natural", "padded_crop", "timm"}


@pytest.mark.parametrize("kind", [LazyPictures, Pictures])
@pytest.mark.parametrize("augment", CHOICES)
def test_augmented_images_have_the_size_and_depend_on_the_seed_alone(augment, kind):
    state = torch.get_rng_state()
    first = augmented(augment, kind=kind)
    assert first.shape == (8, 3, 32, 32) and first.min() >= 0 and first.max() <= 255
    assert torch.equal(first, augmented(augment, kind=kind))
    assert torch.equal(torch.get_rng_state(), state)
    if augment != "none":
        assert not torch.equal(first, augmented(augment, kind=kind, seed=1))
        assert len(torch.unique(first, dim=0)) > 1  # each image has random numbers of its own
    else:
        assert torch.equal(first, augmented(augment, training=False, kind=kind))


@pytest.mark.parametrize("augment", CHOICES)
def test_only_those_that_may_flip_do(augment):
    directions = [rises(augmented(augment, seed=seed)) for seed in range(4)]
    assert all(map(all, directions)) == (augment not in FLIPS)
    assert any(map(any, directions))
    assert all(rises(augmented(augment, training=False)))


@pytest.mark.parametrize(
    "protocol", sorted(path.stem for path in config.CONFIGS.glob("protocol/*"))
)
@pytest.mark.parametrize("task", ["mnist", "mnist_scratch", "svhn", "dsprites_ori"])
def test_images_that_a_mirror_makes_another_class_are_never_flipped(task, protocol):
    loaded = config.load([f"task={task}", f"protocol={protocol}"])
    assert loaded.spec.train.augment not in FLIPS


@pytest.mark.parametrize("augment", CHOICES)
def test_evaluation_looks_at_all_of_an_image_or_at_its_middle(augment):
    image = augmented(augment, training=False, size=56)[0, 0, 28]
    whole = image.max() - image.min()
    if augment in ("none", "flip", "padded_crop"):
        assert whole > 250  # squeezed to a square
    else:  # a square of 48 of 64 columns, of which .875
        assert pytest.approx(float(whole), rel=0.05) == 0.875 * 0.75 * 255


@pytest.mark.parametrize("augment", ["none", "flip", "crop", "natural", "natural_unflipped"])
def test_colours_are_jittered_in_natural_images_alone(augment):
    images = augmented(augment, kind=Orange)
    orange = torch.tensor([200.0, 120, 40]).view(3, 1, 1)
    as_it_was = [torch.allclose(image, orange.expand_as(image), atol=1) for image in images]
    if augment in ("natural", "natural_unflipped"):
        shares = images[:, :, 0, 0] / images[:, :1, 0, 0]
        assert not any(as_it_was)
        assert len(torch.unique(shares.round(decimals=2), dim=0)) == 8  # more than brightness
    else:
        assert all(as_it_was)


def test_a_padded_crop_moves_by_four_pixels_at_most():
    images = augmented("padded_crop", size=32)
    black = (images[:, 0] == 0).float()
    assert (black.mean((1, 2)) < 0.35).all() and black.any()
