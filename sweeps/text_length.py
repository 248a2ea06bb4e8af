"""How many tokens texts have, and to how many a comparison cuts them."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hydra.utils import get_method

from tasks.data.blocks import required
from tasks.data.readers import Examples
from tasks.specs import ModelSpec

SAMPLE = 1000  # texts that tell how long all are
SHORTEST, LONGEST = 16, 128


class Tokens(NamedTuple):
    """What a network makes of some texts, or pairs of texts."""

    counts: np.ndarray  # of tokens of each, sorted
    unknown: float  # the part of all tokens that stands for what it does not know


def tokens_of(texts: Examples, model: ModelSpec, data_dir: Path) -> Tokens:
    """Return what a network makes of a sample of texts.

    No rule tells them: to MiniLM's tokenizer, which was made for English, a word has 1.2 of them in
    English, 2.5 in German, 6 in Russian.
    """
    from tasks.language import columns  # imports torch, which takes seconds

    tokenizer = get_method(required(model.tokenizer, "model.tokenizer"))(model, data_dir, False)
    places = np.linspace(0, len(texts) - 1, min(len(texts), SAMPLE)).astype(int)
    rows = tokenizer(*columns(texts.take(places)), return_attention_mask=False, verbose=False)
    counts, every = [len(row) for row in rows["input_ids"]], np.concatenate(rows["input_ids"])
    return Tokens(np.sort(counts), float((every == tokenizer.unk_token_id).mean()))


def length_of_most(counts: np.ndarray) -> int:
    """Return a length that holds nine of ten texts, in steps of 16 tokens, within bounds."""
    most = int(counts[math.ceil(0.9 * len(counts)) - 1])
    return min(LONGEST, max(SHORTEST, 16 * math.ceil(most / 16)))
