"""Fills what is between two marks of a page: <!-- name -->text<!-- /name -->."""

import re
from collections.abc import Callable, Mapping

from tasks.errors import UserError
from tasks.format import did_you_mean

_MARKED = re.compile(r"<!-- ([\w.-]+) -->(.*?)<!-- /\1 -->", re.DOTALL)


def names(text: str) -> list[str]:
    """Return the names of a page's marks."""
    return [name for name, _ in _MARKED.findall(text)]


def fill(text: str, values: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with the value of its name between each pair of marks.

    A value of several lines, or a table, has lines of its own.

    >>> fill("DoG is <!-- said -->worse<!-- /said -->.", {"said": lambda: "better"})
    'DoG is <!-- said -->better<!-- /said -->.'

    Raises:
        UserError: for a name that there is not.
    """

    def value_of(found: re.Match[str]) -> str:
        name = found[1]
        if name not in values:
            raise UserError(f"no value for <!-- {name} -->: {did_you_mean(name, sorted(values))}")
        value = values[name]()
        if value.startswith(("|", "*", "-", "!")) or "\n" in value:
            value = f"\n{value}\n"
        return f"<!-- {name} -->{value}<!-- /{name} -->"

    return _MARKED.sub(value_of, text)
