"""Spans: windows of a long context, worked out by hand, and the way back to the text."""

import numpy as np
import pytest
import torch

from runner import config
from runner.run import build_task
from tasks.data.readers import Examples, Question
from tasks.errors import UserError
from tasks.question_answering import Spans, best_spans

# With 16 tokens, of which the question takes 1 and two end marks 2, a window holds 13 words of the
# context and overlaps by 5: words 0-12 and 8-19. Its first word is token 2.
WORDS = [f"word{i}" for i in range(20)]
CONTEXT = " ".join(WORDS)


@pytest.fixture(scope="module")
def task() -> Spans:
    return build_task(config.load(["task=squad", "task.synthetic=true"]))


def question(first: int, last: int, *others: str, text: str = "word100") -> Question:
    answer = " ".join(WORDS[first : last + 1])
    return Question(text, CONTEXT, (answer, *others), (CONTEXT.index(answer),) * (1 + len(others)))


def windows(task: Spans, *questions: Question) -> Examples:
    """Make these the task's test part; return its windows."""
    parts = {"test": Examples(list(questions), np.zeros(len(questions), int))}
    task.splits = task.prepare(parts, ())
    return task.splits["test"]


@pytest.mark.parametrize(
    ("first", "last", "targets"),
    [
        (3, 3, [[5, 5], [0, 0]]),  # in the first window alone
        (10, 11, [[12, 13], [4, 5]]),  # in both
        (15, 19, [[0, 0], [9, 13]]),  # in the second, at its end
        (7, 13, [[0, 0], [0, 0]]),  # cut by both
    ],
)
def test_targets_are_the_answers_tokens_in_each_window(task, first, last, targets):
    found = windows(task, question(first, last))
    assert found.inputs.tolist() == [0, 0] and found.labels.tolist() == targets


def test_spaces_around_an_answer_do_not_hide_it(task):
    spaced = Question("word100", CONTEXT, (" word3 ",), (CONTEXT.index(" word3 "),))
    assert windows(task, spaced).labels.tolist() == [[5, 5], [0, 0]]


def test_blank_question_has_windows_all_the_same(task):
    found = windows(task, question(3, 4, text="  "))
    assert found.labels[0].tolist() == [4, 5]  # after two end marks


def test_long_question_is_cut_and_leaves_room_for_the_context(task):
    found = windows(task, question(3, 4, text=" ".join(WORDS)))
    # 5 words of the question, 2 end marks: 9 words a window, 4 further on each time.
    assert len(found) == 4 and found.labels[0].tolist() == [9, 10]
    assert all(len(row) <= 16 for row in task.tokens["test"]["input_ids"])


def test_too_few_tokens_for_windows_are_refused():
    with pytest.raises(UserError, match=r"train.max_tokens=15: .* at least 16"):
        build_task(config.load(["task=squad", "task.synthetic=true", "train.max_tokens=15"]))


def test_best_span_of_all_windows_is_the_exact_text(task):
    windows(task, question(3, 4), question(10, 12))
    predictions = np.array([[5, 6, 1.0], [2, 2, 0.5], [2, 2, 1.0], [4, 6, 2.0]])
    assert task.answers("test", predictions) == ["word3 word4", "word10 word11 word12"]
    assert task.count("test") == 2
    assert task.score("test", predictions) == 1 and task.correct("test", predictions).all()


def test_score_is_f1_and_right_means_exactly_so(task):
    windows(task, question(3, 4), question(10, 12))
    predictions = np.array([[5, 5, 1.0], [2, 2, 0.5], [2, 2, 1.0], [4, 6, 2.0]])
    # "word3" for "word3 word4": precision 1, recall 1/2.
    assert task.score("test", predictions) == pytest.approx((2 / 3 + 1) / 2)
    assert task.correct("test", predictions).tolist() == [False, True]


def test_other_references_count_in_evaluation(task):
    windows(task, question(3, 4, "word3"))
    predictions = np.array([[5, 5, 1.0], [2, 2, 0.0]])
    assert task.correct("test", predictions).tolist() == [True]


def test_divergence_scores_as_no_answer(task):
    windows(task, question(3, 4))
    assert task.majority("test") == 0


@pytest.mark.parametrize(
    ("start", "end", "longest", "expected"),
    [
        ([9, 0, 1, 0, 0, 9], [9, 0, 0, 0, 2, 9], 30, [2, 4, 3]),  # 0 and 5 are no context
        ([0, 0, 0, 5, 0, 0], [0, 4, 0, 0, 1, 0], 30, [3, 4, 6]),  # no end before the start
        ([0, 3, 0, 0, 1, 0], [0, 0, 0, 0, 3, 0], 3, [4, 4, 4]),  # 1 to 4 would be four tokens
        ([0, 3, 0, 0, 1, 0], [0, 0, 0, 0, 3, 0], 4, [1, 4, 6]),
    ],
)
def test_best_span_is_valid(start, end, longest, expected):
    logits = torch.tensor([[start, end]], dtype=torch.float32)
    context = torch.tensor([[False, True, True, True, True, False]])
    assert best_spans(logits, context, longest).tolist() == [expected]


def test_loss_is_the_librarys_own(task):
    windows(task, question(3, 4), question(10, 12))
    torch.manual_seed(0)
    network = task.network().eval()
    inputs, targets = task.batch("test", torch.arange(4))
    own = network(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        start_positions=targets[:, 0],
        end_positions=targets[:, 1],
    ).loss
    torch.testing.assert_close(task.loss(task.forward(network, inputs), targets), own)
