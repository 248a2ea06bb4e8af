"""Wide residual networks for small images, trained from scratch.

S. Zagoruyko, N. Komodakis, Wide Residual Networks, BMVC 2016, arXiv 1605.07146: blocks of batch
normalization, ReLU and 3×3 convolution, twice, without dropout.
"""

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from tasks.data.blocks import required
from tasks.specs import ModelSpec


class WideResNet(nn.Module):
    """A network for images [B, 3, H, W]; its outputs are [B, outputs].

    Args:
        depth: number of convolutions and the last layer: 6 n + 4 for n blocks a group.
        width: factor of the channels 16, 32, 64 of the three groups.
        outputs: number of classes; 0: the features [B, 64 width] come out.
    """

    def __init__(self, depth: int, width: int, outputs: int) -> None:
        super().__init__()
        if (depth - 4) % 6:
            raise ValueError(f"depth must be 6 n + 4, not {depth}")
        blocks: list[nn.Module] = []
        channels = 16
        for group, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            for number in range((depth - 4) // 6):
                blocks.append(Block(channels, group, stride if number == 0 else 1))
                channels = group
        self.first = _convolution(3, 16)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.head: nn.Module = nn.Linear(channels, outputs) if outputs else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, or features."""
        maps = functional.relu(self.norm(self.blocks(self.first(images))))
        return self.head(maps.mean((2, 3)))


class Block(nn.Module):
    """Two convolutions beside an identity, or beside a 1×1 convolution where the shape changes."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(outputs)
        self.convolution1 = _convolution(channels, outputs, stride)
        self.convolution2 = _convolution(outputs, outputs)
        self.shortcut = None
        if channels != outputs or stride != 1:
            self.shortcut = nn.Conv2d(channels, outputs, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the sum of both ways; a convolution on the short one sees normalised maps."""
        active = functional.relu(self.norm1(maps))
        residual = self.convolution2(functional.relu(self.norm2(self.convolution1(active))))
        return residual + (maps if self.shortcut is None else self.shortcut(active))


def wide_resnet(model: ModelSpec, outputs: int, data_dir: Path, synthetic: bool) -> WideResNet:
    """Build the network of a model's yaml, with random weights."""
    if synthetic:
        return WideResNet(**model.synthetic_arguments, outputs=outputs)
    depth, width = required(model.depth, "model.depth"), required(model.width, "model.width")
    return WideResNet(depth, width, outputs)


def _convolution(channels: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 3, stride, padding=1, bias=False)
