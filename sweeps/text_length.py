"""How many tokens texts have, about: a tokenizer takes long to import."""

import math
import re
from collections.abc import Iterable

# Tokens a word, and bounds of a text's length.
TOKENS, SHORTEST, LONGEST = 1.3, 16, 128
# A sign of a script without spaces is nearly a token by itself: of Thai, Chinese, Japanese, ...
UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u2e80-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff]")
# So are three signs of what is longer than words are, such as formulas of molecules.
LONG_WORD = 30


def length_of_most(texts: Iterable[str | tuple[str, str]]) -> int:
    """Return a length that holds nine of ten texts, or pairs of texts, in steps of 16 tokens."""
    lengths = sorted(tokens_in(text if isinstance(text, str) else " ".join(text)) for text in texts)
    tokens = lengths[9 * (len(lengths) - 1) // 10]
    return min(LONGEST, max(SHORTEST, 16 * math.ceil(tokens / 16)))


def tokens_in(text: str) -> float:
    """Return about how many tokens a text has."""
    words = text.split()
    signs = 0 if text.isascii() else len(UNSPACED.findall(text))
    in_long_words = sum(len(word) // 3 for word in words if len(word) > LONG_WORD)
    return TOKENS * len(words) + signs + in_long_words
