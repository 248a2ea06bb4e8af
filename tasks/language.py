"""Text classification: texts are tokenised once, and a batch is as long as its longest text."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from hydra.utils import get_method
from torch import Tensor, nn

from tasks.readers import DataSet, Examples, read
from tasks.task import Task, split


class TextClassification(Task):
    """Texts and one label each, for a transformers network."""

    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        data = self._made_up() if self.synthetic else read(self.task["data"], self.data_dir)
        splits = split(data, self.train, self.name)
        self._tokenise(splits)
        return splits, data.classes

    def _made_up(self) -> DataSet:
        classes = self.task["classes"]
        generator = np.random.RandomState(0)

        def examples(count: int) -> Examples:
            labels = np.arange(count) % classes
            texts = [
                " ".join(f"word{w}" for w in [100 + label, *generator.randint(0, 100, 6)])
                for label in labels
            ]
            return Examples(texts, labels)

        return DataSet(examples(96), examples(64), tuple(str(i) for i in range(classes)))

    def _tokenise(self, splits: Mapping[str, Examples]) -> None:
        tokenizer = get_method(self.model["tokenizer"])(self.model, self.data_dir, self.synthetic)
        self.pad = tokenizer.pad_token_id
        self.tokens = {
            name: tokenizer(
                list(examples.inputs), truncation=True, max_length=self.train["max_tokens"]
            )["input_ids"]
            for name, examples in splits.items()
        }

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        texts = [torch.tensor(self.tokens[split][i]) for i in indices.tolist()]
        tokens = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=self.pad)
        lengths = torch.tensor([len(text) for text in texts])
        mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
        targets = torch.from_numpy(self.splits[split].labels[indices.numpy()])
        return {"input_ids": tokens, "attention_mask": mask}, targets

    def forward(self, network: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        return network(**inputs).logits

    def features(self, backbone: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """Return the mean of the last hidden states over each text's tokens, [B, D]."""
        hidden = backbone(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        return (hidden * mask).sum(1) / mask.sum(1)
