"""Readers of a user's own data, which the yamls own_*.yaml of configs/task name."""

import logging
from pathlib import Path

from tasks.data.own.columns import Problem
from tasks.data.own.inspect import SHORTER_SIDE, OwnData, inspect
from tasks.data.readers import DataSet
from tasks.data.specs import DataSpec
from tasks.errors import UserError

logger = logging.getLogger(__name__)

# Data that were described in this process.
_said: set[tuple[Path, str]] = set()


def images(data: DataSpec, data_dir: Path) -> DataSet:
    """A folder of folders of images."""
    return _read(data, data_dir, "images", "classification")


def texts(data: DataSpec, data_dir: Path) -> DataSet:
    """A table of texts, or of pairs of texts, and their classes."""
    return _read(data, data_dir, "texts", "classification")


def numbers(data: DataSpec, data_dir: Path) -> DataSet:
    """A table of texts, or of pairs of texts, and a number for each."""
    return _read(data, data_dir, "texts", "regression")


def _read(data: DataSpec, data_dir: Path, kind: str, problem: Problem) -> DataSet:
    if data.path is None:
        raise UserError(f"whose {kind}? Say {data.path_key}=PATH (docs/own_data.md)")
    found = inspect(
        data.path,
        data.text,
        data.second_text,
        data.label,
        problem,
        data_dir,
        data.shorter_side or SHORTER_SIDE,
    )
    if found.kind != kind:
        raise UserError(f"{data.path} holds {found.kind}: say {' '.join(found.overrides[:2])}")
    say(found)
    return found.data


def say(found: OwnData) -> None:
    """Log what was found, once in a process: a sweep reads the same data for many runs."""
    if (key := (found.path, found.digest)) not in _said:
        _said.add(key)
        for line in found.describe():
            logger.info(line)
