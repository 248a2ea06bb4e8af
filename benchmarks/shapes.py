"""The parameter shapes of the models whose steps are measured; their networks are not needed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """The parameters of a model.

    Attributes:
        title: what tables call it.
        shapes: makes the shape of each parameter.
        is_large: whether it is too large for all optimizers to be measured on the CPU.
        needs_gpu: whether it is too large for any.
    """

    title: str
    shapes: Callable[[], list[Shape]]
    is_large: bool = False
    needs_gpu: bool = False

    @property
    def count(self) -> int:
        """The number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes())


def _linear(inputs: int, outputs: int) -> list[Shape]:
    return [(outputs, inputs), (outputs,)]


def _minilm() -> list[Shape]:
    """all-MiniLM-L6, as transformers lays BERT out."""
    width, inner = 384, 1536
    norm: list[Shape] = [(width,), (width,)]
    attention = 4 * _linear(width, width) + norm
    layer = attention + _linear(width, inner) + _linear(inner, width) + norm
    embeddings: list[Shape] = [(30522, width), (512, width), (2, width), *norm]
    return embeddings + 6 * layer + _linear(width, width)


def _vit() -> list[Shape]:
    """ViT-B/32 for images of 224 pixels and 1000 classes, as timm and torchvision lay it out."""
    width, inner = 768, 3072
    norm: list[Shape] = [(width,), (width,)]
    attention = norm + _linear(width, 3 * width) + _linear(width, width)
    block = attention + norm + _linear(width, inner) + _linear(inner, width)
    embeddings: list[Shape] = [(1, 1, width), (1, 50, width), (width, 3, 32, 32), (width,)]
    return embeddings + 12 * block + norm + _linear(width, 1000)


def _tinyllama() -> list[Shape]:
    """TinyLlama-1.1B: 4 of 32 heads have keys and values, and no matrix has a bias."""
    width, inner, keys, words = 2048, 5632, 256, 32000
    attention: list[Shape] = [(width, width), (keys, width), (keys, width), (width, width)]
    mlp: list[Shape] = [(inner, width), (inner, width), (width, inner)]
    norms: list[Shape] = [(width,), (width,)]
    return [(words, width), *22 * (attention + mlp + norms), (width,), (words, width)]


MODELS = {
    "minilm": Model("MiniLM-L6", _minilm),
    "vit": Model("ViT-B/32", _vit, is_large=True),
    "tinyllama": Model("TinyLlama-1.1B", _tinyllama, needs_gpu=True),
}
