"""Vega-Lite specifications as plain dictionaries: what all charts of the page share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Spec = dict[str, Any]

# Colours by name: the page puts those of its theme in their place.
REFERENCE, FRONT, MUTED = "$reference", "$accent", "$muted"
PALETTE = 10
DASHES = [[], [6, 2], [2, 2], [8, 2, 2, 2]]
SIGNIFICANT = 5


@dataclass(frozen=True)
class Chart:
    """A figure of the page.

    Attributes:
        name: it is unique on the page.
        description: what it shows, for those who do not see it.
        legend: label, colour and dashes of each line; the page makes them buttons that point out
            theirs.
        choose, choices: what a `<select>` above it offers, where the chart shows one of several:
            it sets the parameter `shown`.
        tall: it takes the height of two.
    """

    name: str
    title: str
    note: str
    description: str
    spec: Spec
    legend: Sequence[tuple[str, str, Sequence[int]]] = ()
    choose: str = ""
    choices: Sequence[str] = ()
    tall: bool = False


Looks = dict[str, tuple[str, list[int]]]


def looks_of(labels: Iterable[str], reference: str = "") -> Looks:
    """Colour and dashes of each label, in this order: the reference stands out."""
    others = [label for label in dict.fromkeys(labels) if label != reference]
    looks: Looks = {reference: (REFERENCE, [])} if reference else {}
    for place, label in enumerate(others):
        looks[label] = f"$c{place % PALETTE}", DASHES[place // PALETTE % len(DASHES)]
    return looks


def legend_of(looks: Looks) -> list[tuple[str, str, Sequence[int]]]:
    """What a chart's legend says of these looks."""
    return [(label, colour, dashes) for label, (colour, dashes) in looks.items()]


def _plain(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str) or value is None:
        return value
    if not np.isfinite(value):
        return None
    number = float(f"{float(value):.{SIGNIFICANT}g}")
    return int(number) if number.is_integer() else number


def chart_spec(layers: Sequence[Spec], frame: pd.DataFrame, height: int = 320) -> Spec:
    """A chart of layers over one frame, as wide as its place; `focus` points out one optimizer.

    The frame is there by columns, of which the page makes rows.
    """
    columns = {str(name): [_plain(value) for value in frame[name]] for name in frame}
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"columns": columns},
        "params": [{"name": "focus", "value": ""}, {"name": "shown", "value": ""}],
        "layer": list(layers),
    }


FADED = 0.1
# Shift and the wheel zoom, shift and a drag move, two clicks go back.
_TRANSLATE = "[pointerdown[event.shiftKey], window:pointerup] > window:pointermove!"
_SELECT = {"type": "interval", "zoom": "wheel![event.shiftKey]", "translate": _TRANSLATE}
ZOOM: Spec = {"name": "zoom", "select": _SELECT, "bind": "scales"}


def opacity(field: str = "optimizer") -> Spec:
    """The channel opacity: whatever is not in `focus` fades."""
    test = f"focus === '' || focus === datum['{field}']"
    return {"condition": {"test": test, "value": 1.0}, "value": FADED}


def axis(field: str, title: str, log: bool = False, **more: Any) -> Spec:
    """A channel of a number along an axis."""
    scale: Spec = {"type": "log"} if log else {"zero": False}
    scale |= {"nice": False, "padding": 8} | more.pop("scale", {})
    ticks: Spec = {"tickCount": 6}
    if log:  # a line and a number at the values that are labelled
        shown = {"condition": {"test": "datum.label === ''", "value": 0}, "value": 0.7}
        label = "datum.value < 0.001 ? format(datum.value, '.0e') : datum.label"
        label = f"datum.label === '' ? '' : {label}"
        ticks = {"format": "~g", "labelExpr": label, "gridOpacity": shown, "tickOpacity": shown}
    own = {"title": title, "grid": True, **ticks, **more.pop("axis", {})}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": own, **more}


def tips(*fields: str | tuple[str, str] | tuple[str, str, str]) -> list[Spec]:
    """What a pointer shows: a field, its title if that is another, and the format of a number."""
    found = []
    for each in fields:
        name, title, *style = (each, each) if isinstance(each, str) else each
        numeric = {"type": "quantitative", "format": style[0]} if style else {"type": "nominal"}
        found.append({"field": name, "title": title, **numeric})
    return found


def layer(mark: str, encoding: Spec, where: str = "", zoomable: bool = False, **look: Any) -> Spec:
    """A layer of marks of what meets `where`; of one layer of a chart the axes can be zoomed."""
    made: Spec = {"mark": {"type": mark, **look}, "encoding": encoding}
    if where:
        made["transform"] = [{"filter": where}]
    if zoomable:
        made["params"] = [ZOOM]
    return made


def lines_look(looks: Looks, field: str = "optimizer") -> Spec:
    """Colour, dashes and opacity of lines by label."""
    scale = {"domain": [*looks], "range": [dash for _, dash in looks.values()]}
    dashes = {"field": field, "type": "nominal", "scale": scale, "legend": None}
    return {**points_look(looks, field), "strokeDash": dashes}


def line_encoding(looks: Looks, shown: Sequence[Spec], **places: Spec) -> Spec:
    """The channels of a line for each optimizer: places, looks, and what a pointer shows."""
    return {**places, **lines_look(looks), "tooltip": shown}


def points_look(looks: Looks, field: str = "optimizer") -> Spec:
    """Colour and opacity of points by label: whatever is not in `focus` fades."""
    scale = {"domain": [*looks], "range": [colour for colour, _ in looks.values()]}
    colour = {"field": field, "type": "nominal", "scale": scale, "legend": None}
    return {"color": colour, "opacity": opacity(field)}


def reference_line(channel: str, *values: float) -> Spec:
    """Dashed lines across at some values of the channel x or y."""
    encoding = {channel: {"field": "at", "type": "quantitative"}}
    lines = {"values": [{"at": value} for value in values]}
    return {"data": lines, **layer("rule", encoding, strokeDash=[3, 3])}
