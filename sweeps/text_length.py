"""How many tokens texts have, and to how many a comparison cuts them."""

import math
from pathlib import Path

import numpy as np
from hydra.utils import get_method

from tasks.data.blocks import required
from tasks.data.readers import Examples
from tasks.specs import ModelSpec

SAMPLE = 1000  # texts that tell how long all are
SHORTEST, LONGEST = 16, 128


def token_counts(texts: Examples, model: ModelSpec, data_dir: Path) -> np.ndarray:
    """Return how many tokens a network makes of each text, or pair of texts, sorted; of a sample.

    No rule tells them: to MiniLM's tokenizer, which was made for English, a word has 1.2 of them in
    English, 2.5 in German, 6 in Russian.
    """
    from tasks.language import columns  # imports torch, which takes seconds

    tokenizer = get_method(required(model.tokenizer, "model.tokenizer"))(model, data_dir, False)
    places = np.linspace(0, len(texts) - 1, min(len(texts), SAMPLE)).astype(int)
    rows = tokenizer(*columns(texts.take(places)), return_attention_mask=False, verbose=False)
    return np.sort([len(row) for row in rows["input_ids"]])


def length_of_most(tokens: np.ndarray) -> int:
    """Return a length that holds nine of ten texts, in steps of 16 tokens, within bounds."""
    most = int(tokens[math.ceil(0.9 * len(tokens)) - 1])
    return min(LONGEST, max(SHORTEST, 16 * math.ceil(most / 16)))
