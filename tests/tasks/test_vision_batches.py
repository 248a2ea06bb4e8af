"""Batches of images: bit for bit what plain arithmetic gives, and the data set stays as it is."""

import pytest
import torch
from conftest import QUIET
from torch.nn import functional

from runner import config
from runner.run import build_task


@pytest.mark.parametrize("model", ["efficientnet_lite0", "squeezenet"])  # rgb and bgr
@pytest.mark.parametrize("size", [32, 48])  # as the images are, and resized
def test_images_are_resized_flipped_and_normalised_as_plain_arithmetic_has_it(model, size):
    words = [*QUIET, "task=cifar", f"model={model}", f"train.image_size={size}"]
    task = build_task(config.load([*words, "train.augment=flip"]))
    examples, indices = task.splits["train"], torch.arange(20)
    before = examples.inputs.copy()
    images = torch.from_numpy(before[:20]).permute(0, 3, 1, 2).float()
    images = functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    flipped = torch.rand(20, generator=torch.Generator().manual_seed(3)) < 0.5
    values = (getattr(task.model, name) for name in ("mean", "std"))
    mean, std = (torch.tensor(channels).view(1, 3, 1, 1) for channels in values)
    for augmented in (False, True):
        expected = images
        if augmented:
            expected = torch.where(flipped.view(-1, 1, 1, 1), expected.flip(-1), expected)
        if task.model.channels == "bgr":
            expected = expected.flip(1)
        expected = (expected - mean) / std
        generator = torch.Generator().manual_seed(3) if augmented else None
        for _ in range(2):
            inputs, targets = task.batch("train", indices, generator)
            assert torch.equal(inputs, expected)
            assert inputs.is_contiguous(memory_format=torch.channels_last)
            assert targets.tolist() == examples.labels[:20].tolist()
            generator = torch.Generator().manual_seed(3) if augmented else None
    assert (examples.inputs == before).all()
