"""A table of the page, from the table that Markdown is made of."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from markupsafe import Markup, escape

from analysis.tables.page import Page


@dataclass(frozen=True)
class Table:
    """Text in rows and columns, as in Markdown.

    Attributes:
        name: it is unique on the page.
        left: the columns that are aligned to the left; others hold numbers.
        links: of each row where its links lead, a fragment of the page; "" or none: nowhere.
        linked: the columns whose text is the link.
        notes: what stands below it, with Markdown's links and code.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[str] = ()
    links: Sequence[str] = ()
    linked: Sequence[str] = ()
    notes: Sequence[str] = ()
    head: str = ""


def table_of(page: Page, links: Sequence[str] = (), linked: Sequence[str] = ()) -> Table:
    """The table of a page in Markdown, whose rows may lead to something."""
    assert page.shown is not None
    return Table(
        name=page.stem,
        caption=page.title,
        columns=[str(column) for column in page.shown],
        rows=[[str(value) for value in row] for row in page.shown.itertuples(index=False)],
        left=list(page.left),
        links=list(links),
        linked=linked,
        notes=list(page.notes),
        head=page.head,
    )


def fragment(*parts: str) -> str:
    """What the page's script reads behind a #: the parts, as encodeURIComponent writes them."""
    return "/".join(quote(part, safe="!'()*") for part in parts)


def rich(text: str, anchors: Collection[str]) -> Markup:
    """Markdown's code and links as HTML; links lead to the anchors that the page has, or nowhere.

    >>> rich("see [a](a.md), `x < y`", {"a"})
    Markup('see <a href="#table-a">a</a>, <code>x &lt; y</code>')
    """

    def link(found: re.Match[str]) -> str:
        label, target = found[1], found[2].removesuffix(".md")
        return f'<a href="#table-{target}">{label}</a>' if target in anchors else label

    escaped = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", link, str(escape(text)))
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))
