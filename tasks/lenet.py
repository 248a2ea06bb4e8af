"""LeNet-5, a small convolutional network for images of digits, trained from scratch.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-Based Learning Applied to Document Recognition,
Proceedings of the IEEE 1998; here as it is usual today, with ReLU and max pooling.
"""

from pathlib import Path

from torch import nn

from tasks.specs import ModelSpec


def lenet5(model: ModelSpec, outputs: int, data_dir: Path, synthetic: bool) -> nn.Module:
    """Build the network, with random weights; without outputs, 84 features come out."""
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        # Of images of 28 pixels this pooling takes 2×2 each; the layers below need 5×5 from all.
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(5), nn.Flatten()),
        *(nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, outputs) if outputs else nn.Identity(),
    )
