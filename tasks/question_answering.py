"""Questions on a text, answered by a part of it: SQuAD, with a head that marks start and end."""

import json
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.data.blocks import required
from tasks.data.cache import Values
from tasks.data.readers import DataSet, Examples, Question
from tasks.errors import UserError
from tasks.language import TextTask, Tokens, pad_rows
from tasks.metrics import Metrics, squad
from tasks.task import finite

# The longest answer that is considered, in tokens; of SQuAD's own few are longer.
LONGEST = 30

# Questions that are cut into windows at once.
CHUNK = 1_000


class QuestionAnswering(TextTask):
    """What all networks have in common here: questions, and answers as texts."""

    metrics: ClassVar[Metrics] = {}
    questions: dict[str, list[Question]]

    def made_up(self) -> DataSet:
        generator = np.random.RandomState(0)

        def question() -> Question:
            words = [f"word{w}" for w in generator.randint(0, 100, 5)]
            answer = f"word{generator.randint(150, 154)}"  # one of these is always the answer
            words.insert(generator.randint(0, 6), answer)
            context = " ".join(words)
            return Question("word100", context, (answer,), (context.index(answer),))

        def examples(count: int) -> Examples:
            questions = [question() for _ in range(count)]
            return Examples(questions, np.array([question.starts[0] for question in questions]))

        return DataSet(examples(96), examples(64), ())

    @abstractmethod
    def answers(self, split: str, predictions: np.ndarray) -> list[str]:
        """Return a text for each question of the split, from all its predictions."""

    def score(self, split: str, predictions: np.ndarray) -> float:
        return self._score(split, self.answers(split, predictions))

    def correct(self, split: str, predictions: np.ndarray) -> np.ndarray:
        """Return which questions are answered exactly, bool [questions]."""
        pairs = zip(self.answers(split, predictions), self.questions[split], strict=True)
        exact = [squad([answer], [question.answers])["squad_exact"] for answer, question in pairs]
        return np.array(exact) == 1

    def majority(self, split: str) -> float:
        """Return the score of answering nothing."""
        return self._score(split, [""] * self.count(split))

    def count(self, split: str) -> int:
        return len(self.questions[split])

    def content(self, split: str) -> tuple[Values, ...]:
        return ([json.dumps(question) for question in self.questions[split]],)

    def _score(self, split: str, answers: list[str]) -> float:
        return squad(answers, [q.answers for q in self.questions[split]])[self.spec.metric]


class Spans(QuestionAnswering):
    """The answer's first and last token, looked for in overlapping windows of a long text.

    A split's examples are windows here: their inputs are indices of questions, int64 [W], and
    their labels the answer's first and last token, int64 [W, 2]; both are token 0 in a window of
    training that does not hold the whole answer (Devlin et al. 2019, section 4.3).
    """

    head = "QuestionAnswering"

    def prepare(self, parts: dict[str, Examples], classes: tuple[str, ...]) -> dict[str, Examples]:
        self.questions = {name: list(part.inputs) for name, part in parts.items()}
        self.tokens = {}
        # Of each window the part of the context that a token covers, in characters, int32 [L, 2];
        # -1 where it is no token of the context.
        self.places: dict[str, list[np.ndarray]] = {}
        return {name: self._windows(name) for name in parts}

    def _windows(self, name: str) -> Examples:
        required(self.train.max_tokens, "train.max_tokens")
        longest = self.max_tokens
        # The paper's 384 gives the usual overlap of 128. A question gets no more than that.
        overlap = longest // 3
        if longest < 16:
            raise UserError(f"train.max_tokens={longest}: windows of a context need at least 16")
        tokens: Tokens = defaultdict(list)
        places, owners, targets = [], [], []
        questions = self.questions[name]
        for first in range(0, len(questions), CHUNK):
            chunk = questions[first : first + CHUNK]
            encoded = self.tokenizer(
                [self._cut(question.question, overlap) for question in chunk],
                [question.context for question in chunk],
                truncation="only_second",
                max_length=longest,
                stride=overlap,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                return_attention_mask=False,
            )
            offsets = encoded.pop("offset_mapping")
            owner = encoded.pop("overflow_to_sample_mapping")
            for key, rows in encoded.items():
                tokens[key] += [np.array(row, dtype=np.int32) for row in rows]
            for window, index in enumerate(owner):
                in_context = np.array(encoded.sequence_ids(window)) == 1
                place = np.where(in_context[:, None], np.array(offsets[window]), -1)
                places.append(place.astype(np.int32))
                owners.append(first + index)
                targets.append(_target(encoded, window, chunk[index]))
        self.tokens[name], self.places[name] = dict(tokens), places
        return Examples(np.array(owners), np.array(targets))

    def _cut(self, question: str, longest: int) -> str:
        """Return a question's beginning of so many tokens; a few of SQuAD's begin with spaces."""
        text = question.strip()
        ends = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        kept = ends["offset_mapping"][:longest]
        return text[: kept[-1][1]] if kept else ""

    def network(self) -> nn.Module:
        return self._build(2)

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return inputs with ``context``, bool [B, L], and targets [B, 2]."""
        inputs, targets = super().batch(split, indices)
        places = pad_rows(self.places[split], indices, -1)
        return inputs | {"context": places[..., 0] >= 0}, targets

    def forward(self, network: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """Return logits of the start and of the end, [B, 2, L]."""
        outputs = network(**{name: value for name, value in inputs.items() if name != "context"})
        return torch.stack([outputs.start_logits, outputs.end_logits], 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.float().flatten(0, 1), targets.flatten())

    def predict(self, network: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
        """Return each window's best span: first token, last token, score; float32 [B, 3]."""
        return best_spans(finite(self.forward(network, inputs)), inputs["context"])

    def answers(self, split: str, predictions: np.ndarray) -> list[str]:
        """Return the text of the best span in any of a question's windows."""
        best: dict[int, tuple[float, str]] = {}
        for window, (first, last, score) in enumerate(predictions):
            owner = int(self.splits[split].inputs[window])
            if owner not in best or score > best[owner][0]:
                place = self.places[split][window]
                start, end = place[int(first), 0], place[int(last), 1]
                best[owner] = float(score), self.questions[split][owner].context[start:end]
        return [best[owner][1] for owner in range(self.count(split))]


def best_spans(outputs: Tensor, context: Tensor, longest: int = LONGEST) -> Tensor:
    """Return the span with the highest sum of logits among all valid ones.

    Valid is what begins and ends in the context, in this order, with at most ``longest`` tokens.

    Args:
        outputs: logits of start and end, [B, 2, L].
        context: which tokens belong to the context, bool [B, L]; at least one in each row.
        longest: the most tokens of an answer.

    Returns:
        First token, last token and the sum, float32 [B, 3].
    """
    logits = outputs.float().masked_fill(~context[:, None], -torch.inf)
    start, end = logits.unbind(1)
    size = start.shape[1]
    found = []
    for further in range(min(longest, size)):
        scores, first = (start[:, : size - further] + end[:, further:]).max(-1)
        found.append(torch.stack([first.float(), (first + further).float(), scores], -1))
    spans = torch.stack(found, 1)
    return spans[torch.arange(len(spans)), spans[..., 2].argmax(1)]


def _target(encoded: Any, window: int, question: Question) -> tuple[int, int]:
    """Return the first answer's first and last token in a window; 0, 0 if it is not all there."""
    text = question.answers[0]
    start = question.starts[0] + len(text) - len(text.lstrip())  # no token covers an outer space
    end = start + len(text.strip())
    first = encoded.char_to_token(window, start, sequence_index=1)
    last = encoded.char_to_token(window, end - 1, sequence_index=1)
    return (0, 0) if first is None or last is None else (first, last)
