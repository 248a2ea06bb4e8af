"""The words of a command line: Hydra's ``key=value``, where paths are typed as they are."""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from tasks.errors import UserError
from tasks.own_models import is_own

# The last part of the keys whose values are paths, and the keys that name columns of a table.
PATHS = ("path", "dir", "data_dir", "runs_dir")
COLUMNS = ("task.data.text", "task.data.second_text", "task.data.label")
QUOTED = re.compile(r"""(['"]).*\1""", re.DOTALL)


def parse(words: Iterable[str]) -> list[Override]:
    """Return what Hydra reads in words that :func:`quoted` has returned.

    Raises:
        UserError: for a word that it cannot read, with the one to give instead.
    """
    parser = OverridesParser.create()
    return [_parsed(parser, word) for word in words]


def quoted(word: str, sweep: bool = False) -> str:
    """Return a word as Hydra wants it: a path or a column in quotes, as it may hold any sign.

    In a sweep (``run.py -m``) a comma is between two of them, and what Hydra reads is left alone.
    """
    key, equal, value = word.partition("=")
    is_name = key.rpartition(".")[2].lstrip("+") in PATHS or key in COLUMNS
    is_name = is_name or (key == "model" and is_own(value))
    if not (equal and is_name) or value.lower() in ("", "null") or QUOTED.fullmatch(value):
        return word
    if not sweep:
        return f"{key}={_in_quotes(value)}"
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return f"{key}={','.join(map(_in_quotes, value.split(',')))}"
    return word


def path_in(word: str) -> str:
    """Return the path in ``key=path``, without Hydra's quotes."""
    (override,) = parse([quoted(word)])
    text: str = OmegaConf.create({"path": override.value()}).path  # ${oc.env:HOME} may be in it
    return text


def split(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the names or paths of sweeps among some words, and the overrides."""
    names, overrides = [], []
    for word in words:
        key, equal, value = word.partition("=")
        if equal and key == "sweep":
            names.append(path_in(f"path={value}"))
        elif equal and "/" not in key:
            overrides.append(word)
        else:
            names.append(word)
    return [str(Path(name).expanduser()) for name in names], overrides


def _parsed(parser: OverridesParser, word: str) -> Override:
    try:
        return parser.parse_override(word)
    except HydraException as error:
        key, equal, value = word.partition("=")
        if not equal:
            raise UserError(f"{word} cannot be read: what is to be set is key=value") from error
        # Double, so that the shell's can be around them.
        instead = shlex.quote(f"{key}={_in_quotes(value, Quote.double)}")
        raise UserError(f"{word} cannot be read: a text with such signs is {instead}") from error


def _in_quotes(text: str, quote: Quote = Quote.single) -> str:
    return QuotedString(text, quote).with_quotes()
