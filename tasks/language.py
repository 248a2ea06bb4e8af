"""Texts for transformers networks: tokenised once, and a batch is as long as its longest text."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hydra.utils import get_method
from torch import Tensor, nn
from torch.nn import functional

from tasks.data.blocks import required
from tasks.data.cache import Values
from tasks.data.readers import DataSet, Examples
from tasks.errors import UserError
from tasks.metrics import OF_NUMBERS
from tasks.specs import TaskSpec
from tasks.task import Task, finite, split

# What a tokenizer gives (input_ids, maybe token_type_ids): for each a row of int32 a text.
Tokens = dict[str, list[np.ndarray]]

# Texts tokenised at once: the library's own form takes a hundred times the memory of ours.
CHUNK = 10_000


class TextTask(Task):
    """Texts, or pairs of texts, and something to say about each."""

    # transformers' name of the network's head, AutoModelFor...
    head = "SequenceClassification"
    trains_adapters = True

    def load(self) -> tuple[dict[str, Examples], tuple[str, ...]]:
        data = self.made_up() if self.synthetic else self.read()
        promised, got = self.spec.classes or 0, len(data.classes)
        block = self.spec.data
        if got != promised and not (block and block.is_users):
            key = required(block, "task.data").path_key
            raise UserError(
                f"{self.name}: the yaml promises {promised} classes, the data name {got}: give a "
                f"copy whose labels have names with {key}=FOLDER"
            )
        tokenizer = get_method(required(self.model.tokenizer, "model.tokenizer"))
        self.tokenizer = tokenizer(self.model, self.data_dir, self.synthetic)
        longest = self.tokenizer.model_max_length
        self.max_tokens = min(self.train.max_tokens or longest, longest)
        parts = split(data, self.train, self.name)
        return self.prepare(parts, data.classes), data.classes

    @abstractmethod
    def made_up(self) -> DataSet:
        """Return 96 and 64 learnable examples, in words that a synthetic tokenizer knows."""

    def prepare(self, parts: dict[str, Examples], classes: tuple[str, ...]) -> dict[str, Examples]:
        """Tokenise the parts; return them as the splits that batches are taken from."""
        self.tokens = {name: self.tokenised(columns(part)) for name, part in parts.items()}
        return parts

    def tokenised(self, texts: Sequence[list[str]]) -> Tokens:
        """Return the tokens of N texts, or of N pairs given as two lists, cut to the protocol."""
        tokens: Tokens = defaultdict(list)
        for first in range(0, len(texts[0]), CHUNK):
            chunk = self.tokenizer(
                *(column[first : first + CHUNK] for column in texts),
                truncation=True,
                max_length=self.max_tokens,
                return_attention_mask=False,
            )
            for name, rows in chunk.items():
                tokens[name] += [np.array(row, dtype=np.int32) for row in rows]
        return dict(tokens)

    def padded(self, tokens: Tokens, indices: Tensor) -> dict[str, Tensor]:
        """Return the network's inputs of some texts, int64 [B, L], with their attention mask."""
        padding = {"input_ids": self.tokenizer.pad_token_id}
        inputs = {
            name: pad_rows(rows, indices, padding.get(name, 0)) for name, rows in tokens.items()
        }
        lengths = torch.tensor([len(tokens["input_ids"][i]) for i in indices.tolist()])
        positions = torch.arange(inputs["input_ids"].shape[1])
        return inputs | {"attention_mask": (positions < lengths[:, None]).long()}

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        targets = torch.from_numpy(self.splits[split].labels[indices.numpy()])
        return self.padded(self.tokens[split], indices), targets

    def forward(self, network: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        return network(**inputs).logits

    def features(self, backbone: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """Return the mean of the last hidden states over each text's tokens, [B, D]."""
        hidden = backbone(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1)
        return (hidden * mask).sum(1) / mask.sum(1)

    def content(self, split: str) -> tuple[Values, ...]:
        examples = self.splits[split]
        return (*columns(examples), examples.labels)

    def _build(self, outputs: int, *more: Any) -> nn.Module:
        network: Any = super()._build(outputs, self.head)
        if network.config.pad_token_id is None:
            network.config.pad_token_id = self.tokenizer.pad_token_id
        return network


class TextClassification(TextTask):
    """One class each."""

    def made_up(self) -> DataSet:
        classes = required(self.spec.classes, "task.classes")

        def examples(count: int) -> Examples:
            labels = np.arange(count) % classes
            return Examples(made_up_texts(self.spec, labels), labels)

        return DataSet(examples(96), examples(64), tuple(f"word{i}" for i in range(classes)))


class TextRegression(TextTask):
    """One number each, learnt by squared error; scored by correlation, no answer is right."""

    metrics = OF_NUMBERS

    def made_up(self) -> DataSet:
        def examples(count: int) -> Examples:
            labels = np.arange(count) % 6
            return Examples(made_up_texts(self.spec, labels), labels.astype(np.float64))

        return DataSet(examples(96), examples(64), ())

    def network(self) -> nn.Module:
        return self._build(1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(outputs.float().squeeze(-1), targets.float())

    def predict(self, network: nn.Module, inputs: Any) -> Tensor:
        """Return the numbers, float32 [B]."""
        return finite(self.forward(network, inputs)).float().squeeze(-1)

    def correct(self, split: str, predictions: np.ndarray) -> None:
        return None

    def kept(self, predictions: np.ndarray) -> list[float]:
        """Return the numbers with four digits."""
        return [float(f"{number:.4g}") for number in predictions]

    def majority(self, split: str) -> float:
        """Return the score of always answering the same."""
        return self.score(split, np.zeros(len(self.splits[split])))


def columns(examples: Examples) -> list[list[str]]:
    """Return N texts, or N tuples of texts, as one list a column."""
    if isinstance(examples.inputs[0], str):
        return [list(examples.inputs)]
    return [list(column) for column in zip(*examples.inputs, strict=True)]


def pad_rows(rows: Sequence[np.ndarray], indices: Tensor, padding: int) -> Tensor:
    """Return some rows as one int64 tensor, [B, longest, ...]."""
    chosen = [torch.from_numpy(rows[i]) for i in indices.tolist()]
    return nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=padding).long()


def made_up_texts(task: TaskSpec, labels: np.ndarray) -> list[Any]:
    """Return a text for each label, whose first word tells it, or a tuple of the task's columns."""
    generator = np.random.RandomState(0)

    def words(first: int, count: int) -> str:
        return " ".join(f"word{w}" for w in [first, *generator.randint(0, 100, count)])

    texts = [words(100 + label, 6) for label in labels]
    more = len(task.data.columns) - 1 if task.data and task.data.columns else 0
    if not more:
        return texts
    return [(text, *(words(0, 2) for _ in range(more))) for text in texts]
