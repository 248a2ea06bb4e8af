"""Small networks in folders and files as timm and transformers write them, and data for them."""

from pathlib import Path

import numpy as np
import timm
import torch
from timm.models import save_for_hf
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
)

from tasks.data.readers import DataSet, Examples
from tasks.models import transformers_tokenizer

SIZES = {"vocab_size": 256, "hidden_size": 16, "intermediate_size": 16}
SIZES |= {"num_hidden_layers": 1, "num_attention_heads": 2}
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def write_all(folder: Path) -> None:
    """Write the networks below a folder."""
    torch.manual_seed(0)
    described = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "crop_pct": 0.8}
    config = {"pretrained_cfg": described}
    image_network = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(image_network, str(folder / "resnet"), config, safe_serialization=True)
    save_for_hf(timm.create_model("test_vit", num_classes=5), str(folder / "vit"))  # a pickle
    checkpoint = {"state_dict": image_network.state_dict(), "arch": "test_resnet", "epoch": 3}
    torch.save(checkpoint, folder / "best [1].pth.tar")
    tokenizer = transformers_tokenizer(None, folder, synthetic=True)
    for length, name in ((12, "bert"), (None, "no_length")):
        sizes = {**SIZES, "max_position_embeddings": 14}
        BertForSequenceClassification(BertConfig(**sizes, num_labels=2)).save_pretrained(
            folder / name
        )
        tokenizer.model_max_length = length or 10**30
        tokenizer.save_pretrained(folder / name)
    tokens = {"bos_token_id": 1, "eos_token_id": 1}
    sizes = {"vocab_size": 256, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40}
    GPT2LMHeadModel(GPT2Config(**sizes, **tokens)).save_pretrained(folder / "gpt2")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder / "gpt2")
    sizes = {key: SIZES[key] for key in SIZES if key != "vocab_size"}
    ViTForImageClassification(ViTConfig(**sizes, image_size=32)).save_pretrained(
        folder / "images_of_transformers"
    )


def images(classes: int = 10) -> DataSet:
    """Images of one colour a class and much noise, not square."""
    generator = np.random.RandomState(0)
    colours = generator.randint(0, 256, (classes, 1, 1, 3))

    def examples(count: int) -> Examples:
        labels = np.arange(count) % classes
        noise = generator.randint(-64, 65, (count, 20, 28, 3))
        return Examples(np.clip(colours[labels] + noise, 0, 255).astype(np.uint8), labels)

    return DataSet(examples(64), examples(60), tuple(f"colour {i}" for i in range(classes)))
