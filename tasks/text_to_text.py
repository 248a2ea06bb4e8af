"""Everything as text to text: the network reads a prompt and writes the answer (T5).

Prompts and answers are those of Raffel et al. 2020, appendix D: the data set's name, each part of
the input under its own name, and a class as a word.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.data.blocks import required
from tasks.data.readers import Examples
from tasks.errors import UserError
from tasks.language import TextClassification, TextRegression, TextTask, columns, pad_rows
from tasks.question_answering import QuestionAnswering
from tasks.task import finite

# What cross entropy passes over.
IGNORED = -100


class TextToText(TextTask):
    """Inputs and targets as tokens; answers by greedy decoding."""

    head = "Seq2SeqLM"

    def prepare(self, parts: dict[str, Examples], classes: tuple[str, ...]) -> dict[str, Examples]:
        self.tokens, self.targets = {}, {}
        for name, part in parts.items():
            self.tokens[name] = self.tokenised([self._prompts(part)])
            self.targets[name] = self.tokenised([self.target_texts(part, classes)])["input_ids"]
        self.longest = max(map(len, self.targets["train"]))
        return parts

    @abstractmethod
    def target_texts(self, examples: Examples, classes: tuple[str, ...]) -> list[str]:
        """Return what the network is to write for each example."""

    def prompt_texts(self, examples: Examples) -> list[list[str]]:
        """Return what the prompt's gaps are filled with, a list for each gap."""
        return columns(examples)

    def _prompts(self, examples: Examples) -> list[str]:
        texts, data = self.prompt_texts(examples), self.spec.data
        if data and data.is_users:  # nobody knows how to ask of them, nor whether they are pairs
            prompt = " ".join("{}" for _ in texts)
        else:
            prompt = required(self.spec.prompt, "task.prompt")
        return [prompt.format(*parts) for parts in zip(*texts, strict=True)]

    def network(self) -> nn.Module:
        return self._build(1)

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return inputs with ``labels``, and these as targets: tokens, int64 [B, T]."""
        labels = pad_rows(self.targets[split], indices, IGNORED)
        return self.padded(self.tokens[split], indices) | {"labels": labels}, labels

    def forward(self, network: Any, inputs: Mapping[str, Any]) -> Tensor:
        """Return each target token's logits after the right ones before it, [B, T, vocabulary]."""
        decoder = network.prepare_decoder_input_ids_from_labels(inputs["labels"])
        return network(**_encoder(inputs), decoder_input_ids=decoder).logits

    def features(self, backbone: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        return super().features(backbone, _encoder(inputs))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over all target tokens, as the network's own loss is."""
        return functional.cross_entropy(
            outputs.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED
        )

    def written(self, network: Any, inputs: Mapping[str, Any]) -> Tensor:
        """Return what the network writes, greedily: tokens, int64 [B, longest]."""
        tokens = network.generate(
            **_encoder(inputs),
            max_new_tokens=self.longest,
            do_sample=False,
            num_beams=1,
            logits_processor=[lambda _, logits: finite(logits)],
        )[:, 1:]  # the first one tells the decoder to start
        missing = self.longest - tokens.shape[1]
        return functional.pad(tokens, (0, missing), value=self.tokenizer.pad_token_id)

    def texts(self, tokens: Tensor | np.ndarray | list[np.ndarray]) -> list[str]:
        """Return rows of tokens as texts."""
        decoded = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in decoded]


class Classification(TextToText, TextClassification):
    """The class whose word is written exactly; -1, which is always wrong, for anything else."""

    def prepare(self, parts: dict[str, Examples], classes: tuple[str, ...]) -> dict[str, Examples]:
        # As the tokenizer gives them back: cut, with other spaces, without signs that it lacks.
        words = self.texts(self.tokenised([list(classes)])["input_ids"])
        self.class_of = {word: label for label, word in enumerate(words)}
        for name, word in zip(classes, words, strict=True):
            if classes[self.class_of[word]] != name:
                raise UserError(
                    f"{self.model.name} writes the classes {name} and "
                    f"{classes[self.class_of[word]]} alike, as {word!r}: give them other names, or "
                    "choose a network that writes no text, such as model=roberta_base"
                )
        return super().prepare(parts, classes)

    def target_texts(self, examples: Examples, classes: tuple[str, ...]) -> list[str]:
        return [classes[label] for label in examples.labels]

    def predict(self, network: nn.Module, inputs: Any) -> Tensor:
        written = self.texts(self.written(network, inputs))
        return torch.tensor([self.class_of.get(text, -1) for text in written])


class Regression(TextToText, TextRegression):
    """A number from 0 to 5 written in steps of 0.2; what is no number counts as 0."""

    def target_texts(self, examples: Examples, classes: tuple[str, ...]) -> list[str]:
        return [number_text(label) for label in examples.labels]

    def predict(self, network: nn.Module, inputs: Any) -> Tensor:
        return torch.tensor([number_in(text) for text in self.texts(self.written(network, inputs))])


class Answers(TextToText, QuestionAnswering):
    """The answer as the network writes it, to as much of the context as fits."""

    def prepare(self, parts: dict[str, Examples], classes: tuple[str, ...]) -> dict[str, Examples]:
        self.questions = {name: list(part.inputs) for name, part in parts.items()}
        return super().prepare(parts, classes)

    def prompt_texts(self, examples: Examples) -> list[list[str]]:
        return [[q.question for q in examples.inputs], [q.context for q in examples.inputs]]

    def target_texts(self, examples: Examples, classes: tuple[str, ...]) -> list[str]:
        return [question.answers[0] for question in examples.inputs]

    def predict(self, network: nn.Module, inputs: Any) -> Tensor:
        """Return the answers' tokens, int64 [B, longest]."""
        return self.written(network, inputs)

    def answers(self, split: str, predictions: np.ndarray) -> list[str]:
        return self.texts(predictions)


def number_text(value: float) -> str:
    """Return a number rounded to the nearest fifth, as T5 writes it: 3.8."""
    return f"{np.round(value * 5) / 5 + 0.0:.1f}"  # + 0: no "-0.0" beside "0.0"


def number_in(text: str) -> float:
    """Return the number that a text is; 0 if it is none."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _encoder(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}
