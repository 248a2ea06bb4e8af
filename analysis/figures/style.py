"""What all figures look like, and how they become SVG: the same bytes every time."""

from collections.abc import Callable, Iterable
from functools import wraps
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import Comparison
from analysis.files import MADE_BY, mark
from analysis.roles import in_order
from analysis.statistics import is_in_percent

# Each optimizer has its own marker and dashes, so that a print in black and white can be read.
# Colours: Okabe and Ito's, told apart by the colour-blind.
CURVES = [
    ("o", "-", "#0072B2"),
    ("s", "--", "#D55E00"),
    ("^", "-.", "#009E73"),
    ("D", (0, (1, 1)), "#CC79A7"),
    ("v", (0, (5, 1, 1, 1, 1, 1)), "#56B4E9"),
    ("P", (0, (8, 2)), "#E69F00"),
]
# Dashes and colour of the reference, which has no rate to tune.
REFERENCE_LOOK: tuple[Any, str] = ("-", "#000000")
# Those of others without one: their numbers have no common factor, so that 30 looks differ.
_FREE_DASHES = [(0, (6, 2)), (0, (3, 1, 1, 1)), (0, (10, 3)), (0, (2, 2)), (0, (8, 2, 1, 2, 1, 2))]
_FREE_COLOURS = ["#666666", "#8c564b", "#999933", "#5d3a9b", "#1b7837", "#882255"]
# More bands or small prints than this lie upon each other.
FEW = 5

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    # Text as paths looks the same wherever it is shown; the salt makes ids the same every time.
    "svg.fonttype": "path",
    "svg.hashsalt": "dog-bench",
}

MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]
DASHES: list[Any] = [dashes for _, dashes, _ in CURVES] + [(0, (3, 3))]

# In inches: the height of a line of text beside axes, and where it begins there.
LINE, TEXT = 0.1767, 0.424908

# Around a point to point out.
RING: Any = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none"}

# The small print under a title.
NOTE: Any = {"fontsize": 7, "color": "#555555"}

# A label is what stands at the right: its text, its height in data units, and how to draw it.
Label = tuple[str, float, dict[str, Any]]


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function that draws do so in the house style."""

    @wraps(draw)
    def inner(*arguments: Any, **options: Any) -> Any:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*arguments, **options)

    return inner


@styled
def svg(figure: Any, made_by: str = MADE_BY) -> str:
    """The figure as SVG, the same bytes every time, with a mark that says what made it."""
    import io

    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    declaration, rest = file.getvalue().split("?>", 1)
    return f"{declaration}?>\n{mark(made_by)}{rest}"


def looks(count: int, ordered: bool = False) -> list[dict[str, Any]]:
    """Looks that tell `count` lines apart in black and white too, of one hue if `ordered`."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    # The palest colours of the map are lost on white.
    hues = [to_hex(rgba) for rgba in colormaps["viridis"](np.linspace(0, 0.85, count))]
    fine: dict[str, Any] = {"linewidth": 1.2, "markersize": 4.5}
    fine |= {"markeredgecolor": "white", "markeredgewidth": 0.4}
    return [
        {"color": hue if ordered else colour, "linestyle": dashes, "marker": marker, **fine}
        for (marker, dashes, colour), hue in zip(curve_looks(count), hues, strict=True)
    ]


def curve_looks(count: int) -> list[tuple[str, Any, str]]:
    """Marker, dashes and colour of each of so many curves: `CURVES`, and after them other mixes."""
    return [
        (MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)], CURVES[i % len(CURVES)][2])
        for i in range(count)
    ]


def tuning_free_looks(labels: Iterable[str]) -> dict[str, tuple[Any, str]]:
    """Dashes and colour of each of the labels, in order."""
    looks = zip(cycle(_FREE_DASHES), cycle(_FREE_COLOURS), strict=False)
    return dict(zip(in_order(labels), looks, strict=False))


def plain(value: float) -> str:
    """A setting's value as short as can be: 0.01, 1e-5."""
    return f"{value:g}".replace("e-0", "e-").replace("e+0", "e")


def beside_labels(
    labels: Iterable[str], place: tuple[float, float, float, float]
) -> tuple[Any, Any]:
    """A figure and its axes at `place`, right of which the labels stand: larger if they need it."""
    from matplotlib.figure import Figure
    from matplotlib.textpath import TextPath

    left, bottom, width, height = place
    wide, high = 7.4, 3.8
    texts = [TextPath((0, 0), text, size=STYLE["font.size"]).get_extents() for text in labels]
    room = TEXT + max(text.x1 for text in texts) / 72 + 0.1
    x = wide / max(wide, wide * (left + width) + room)
    y = high / max(high, high * (1 - height) + LINE * len(texts))
    figure = Figure(figsize=(wide / x, high / y))
    return figure, figure.add_axes((left * x, bottom * y, width * x, 1 - (1 - height) * y))


def beside_names(count: int, least: float) -> tuple[Any, Any]:
    """A figure, at least so high, and its axes, right of which stand so many problems' names."""
    from matplotlib.figure import Figure

    height = max(least, 0.2 * count + 1)
    figure = Figure(figsize=(9.4, height))
    return figure, figure.add_axes((0.09, 0.475 / height, 0.5, 1 - 0.95 / height))


def panel(axes: Any, x: str, y: str, log_x: bool = True, log_y: bool = False) -> None:
    """Gives axes their units, their scales, and ticks as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_locator(LogLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        axis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def head(axes: Any, title: str, note: str) -> None:
    """Writes a title above the axes, and the small print between."""
    axes.set_title(title, loc="left", fontsize=10, y=1, pad=17)
    axes.text(0, 1.015, note, transform=axes.transAxes, **NOTE)


def head_of_panels(figure: Any, title: str, note: str) -> None:
    """Writes a title above all panels of a figure, and the small print below it."""
    _, height = figure.get_size_inches()
    figure.text(0.05, 1 - 0.2 / height, title, fontsize=10)
    figure.text(0.05, 1 - 0.36 / height, note, **NOTE)


def score(comparison: Comparison, values: Any) -> Any:
    """Scores in the unit in which they are drawn: percent, or the metric's own."""
    return 100 * values if is_in_percent(comparison.problem) else values


def score_label(comparison: Comparison) -> str:
    """The name of that unit."""
    percent = " (%)" if is_in_percent(comparison.problem) else ""
    return f"test {comparison.problem.metric}{percent}"


def error_unit(comparison: Comparison) -> tuple[str, float]:
    """The label of an axis of errors, log scale, and what an error is multiplied by there."""
    problem = comparison.problem
    if is_in_percent(problem):
        return "test error (%, log scale)", 100
    one_minus = "1 − " if problem.higher_is_better else ""
    return f"test {one_minus}{problem.metric} (log scale)", 1


def error_locator(low: float, high: float) -> Any:
    """Where a log axis of errors has its ticks: of less than a decade the decades are too few."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if high / low > 4:
        return LogLocator(subs=(1, 2, 3, 5, 7))
    return MaxNLocator(6, steps=[1, 2, 5, 10])


def draw_means(
    axes: Any, comparison: Comparison, runs: pd.DataFrame, style: dict[str, Any]
) -> float:
    """Draws the mean test score of each `value`, its range over seeds as a bar; returns the last.

    A ring is around that of the runs with default settings, if there are any.
    """
    groups = score(comparison, runs["test"]).groupby(runs["value"])
    mean, low, high = groups.mean(), groups.min(), groups.max()
    axes.plot(mean.index, mean, **style)
    several = groups.count() > 1
    axes.vlines(mean.index[several], low[several], high[several], color=style["color"], linewidth=1)
    default = runs[runs["opt_default"]]
    if len(default):
        ring = [default["value"].iloc[0]], [score(comparison, default["test"].mean())]
        axes.plot(*ring, color=style["color"], **RING)
    return float(mean.iloc[-1])


def write_labels(axes: Any, labels: list[Label]) -> None:
    """Writes each label right of the axes, beside a piece of its line and clear of the others."""
    axes.get_ylim()  # brings the limits up to date, which transforms alone do not
    to_axes = axes.transScale + axes.transLimits
    heights = np.array([to_axes.transform((1, label[1]))[1] for label in labels])
    width, height_of_axes = axes.get_position().size * axes.figure.get_size_inches()
    # In inches: the height of a line of text; where a piece of line begins and ends, and the text.
    gap = LINE / height_of_axes
    start, end, place_of_text = (1 + inches / width for inches in (0.07326, 0.3663, TEXT))
    for (label, _, style), height in zip(labels, spread(heights, gap), strict=True):
        axes.plot(
            [start, (start + end) / 2, end],
            [height] * 3,
            transform=axes.transAxes,
            clip_on=False,
            markevery=[1],
            **style,
        )
        place = {"transform": axes.transAxes, "va": "center_baseline", "color": style["color"]}
        axes.text(place_of_text, height, label, **place)


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """The heights, of shape (n,), moved as little as it takes to be `gap` apart and within 0 to 1.

    Neighbours that are too close form a block around their common middle; blocks that then touch
    are merged (isotonic regression on heights less their due distance). More than fit stand above.
    """
    order = np.argsort(heights, kind="stable")
    blocks: list[tuple[float, int]] = []
    for rank, height in enumerate(heights[order]):
        mean, size = height - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            last, count = blocks.pop()
            mean, size = (mean * size + last * count) / (size + count), size + count
        blocks.append((mean, size))
    flat = np.array([mean for mean, size in blocks for _ in range(size)])
    flat = flat.clip(0, max(0, 1 - gap * (len(heights) - 1)))
    result = np.empty(len(heights))
    result[order] = flat + gap * np.arange(len(heights))
    return result
