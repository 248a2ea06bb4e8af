"""Text to text: prompts, words for classes and numbers, and the network's own loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from runner import config
from runner.run import build_task, run
from tasks.errors import UserError
from tasks.language import TextClassification
from tasks.text_to_text import number_in, number_text


def made_up(task, *overrides):
    return config.load([f"task={task}", "model=t5_base", "task.synthetic=true", *overrides])


class Writer:
    """In place of a network: writes given texts."""

    def __init__(self, task, texts):
        self.rows = task.tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]

    def generate(self, **_):
        return torch.cat([torch.zeros(len(self.rows), 1, dtype=torch.long), self.rows], 1)


@pytest.mark.parametrize(
    ("task", "texts", "prompt"),
    [
        ("cola", ["A."], "cola sentence: A."),
        ("mrpc", ["A.", "B."], "mrpc sentence1: A. sentence2: B."),
        ("mnli", ["Premise.", "So."], "mnli hypothesis: So. premise: Premise."),
        ("qnli", ["Who?", "He."], "qnli question: Who? sentence: He."),
        ("squad", ["Who?", "{He}."], "question: Who? context: {He}."),
    ],
)
def test_prompts_are_those_of_t5(task, texts, prompt):
    assert made_up(task).spec.task.prompt.format(*texts) == prompt


def test_classes_are_words_and_what_is_no_word_is_no_class():
    task = build_task(made_up("mnli"))
    labels = task.splits["train"].labels[:3]
    words = task.texts(np.array(task.targets["train"][:3]))
    assert words == [task.classes[label] for label in labels]
    task.longest = 4
    written = Writer(task, ["word2", "word1", "word1 word1", "word77", ""])
    inputs, _ = task.batch("test", torch.arange(5))
    assert task.predict(written, inputs).tolist() == [2, 1, -1, -1, -1]


def test_numbers_are_written_in_fifths_and_what_is_no_number_is_zero():
    values = (3.84, 0.0, 5.0, 2.75, 1.5, -0.05)
    assert [number_text(v) for v in values] == ["3.8", "0.0", "5.0", "2.8", "1.6", "0.0"]
    assert [number_in(text) for text in ("3.8", "five", "", "nan", "inf")] == [3.8, 0, 0, 0, 0]
    task = build_task(made_up("stsb"))
    inputs, _ = task.batch("test", torch.arange(2))
    task.longest = 4
    predictions = task.predict(Writer(task, ["4.2", "word1"]), inputs)
    torch.testing.assert_close(predictions, torch.tensor([4.2, 0.0]))


def test_classes_that_the_network_writes_alike_are_refused(monkeypatch):
    """The synthetic tokenizer lacks these words, as T5's lacks most alphabets."""
    made = TextClassification.made_up
    monkeypatch.setattr(
        TextClassification, "made_up", lambda self: replace(made(self), classes=("да", "нет"))
    )
    with pytest.raises(UserError, match="writes the classes да and нет alike, as ''"):
        build_task(made_up("cola"))


def test_answers_are_what_the_network_writes():
    task = build_task(made_up("squad"))
    right = [question.answers[0] for question in task.questions["test"]]
    wrong = ["word0", *right[1:]]
    inputs, _ = task.batch("test", torch.arange(64))
    predictions = task.predict(Writer(task, wrong), inputs).numpy()
    assert task.answers("test", predictions) == wrong
    assert task.score("test", predictions) == pytest.approx(63 / 64)
    assert task.correct("test", predictions).tolist() == [False] + 63 * [True]


@pytest.mark.parametrize("name", ["stsb", "squad"])
def test_loss_is_the_networks_own(name):
    task = build_task(made_up(name))
    torch.manual_seed(0)
    network = task.network().eval()
    inputs, targets = task.batch("train", torch.arange(6))
    loss = task.loss(task.forward(network, inputs), targets)
    torch.testing.assert_close(loss, network(**inputs).loss)


def test_predictions_of_all_batches_have_one_width():
    task = build_task(made_up("squad"))
    network = task.network().eval()
    for indices in (torch.arange(2), torch.arange(5)):
        inputs, _ = task.batch("test", indices)
        assert task.predict(network, inputs).shape == (len(indices), task.longest)


def test_text_to_text_learns_a_made_up_problem(tmp_path):
    overrides = ["opt=adam", "opt.lr=0.003", "train.steps=150", "train.eval_every=1000"]
    quiet = ["wandb.mode=disabled", "progress=false", f"runs_dir={tmp_path}"]
    record = run(made_up("cola", *overrides, *quiet)).plain()
    assert record["results"]["test"]["last"] > 0.9
