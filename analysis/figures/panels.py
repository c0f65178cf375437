"""A figure as panels that a page lays out: the same lines, points and words as its files, in shapes that reflow.

Every place is a share of the axes, so a panel is as wide as there is room for and its words keep their size; colours
are names that a style sheet gives a light and a dark value. Photographs are none of this: see `reconstructions`.

    panels(figure)    one `Panel` per visible axes, in reading order
    key(figure)       the entries of its legend
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection, PathCollection
from matplotlib.colors import same_color, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Transform

from .drawing import STYLE

INK = "ink"
PIXELS = 4 / 3  # of a page per point of a file
NEAR = 0.005  # of the axes: ticks that far outside are shown at the edge
SIGNS = dict(
    pair.split()
    for pair in (
        *(r"\tau tau", r"\mu mu", r"\theta theta", r"\partial ∂", r"\sqrt √", r"\| ‖", r"\times ×"),
        *("^{-2} ⁻²", "^2 ²", "{ (", "} )"),
    )
)
"""What is set as a formula in files -> what a page shows."""
DASHES = {"-": "", "--": "6 3", "-.": "6 2 1 2", ":": "1.5 2"}
ANCHORS = {"left": "start", "center": "middle", "right": "end"}
_SYMBOL = re.compile(r"_\{([^}]*)\}")


@dataclass(frozen=True)
class Stroke:
    """A line through points, or the outline of an area, in per cent of the axes, downwards."""

    colour: str
    points: str
    dashes: str
    width: float
    filled: bool
    opacity: float


@dataclass(frozen=True)
class Dot:
    """A marker at a place in per cent: a path in pixels around it."""

    colour: str
    x: float
    y: float
    path: str
    filled: bool
    opacity: float


@dataclass(frozen=True)
class Word:
    """A text at a place in per cent."""

    x: float
    y: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Word, ...]
    y_ticks: tuple[Word, ...]
    strokes: tuple[Stroke, ...]
    dots: tuple[Dot, ...]
    words: tuple[Word, ...]

    @property
    def gutter(self) -> int:
        """Letters of the longest label beside it."""
        return max((len(tick.text) for tick in self.y_ticks), default=0)


@dataclass(frozen=True)
class Entry:
    """A line of a legend: a dash, a marker or an area, and its words."""

    colour: str
    dashes: str | None
    path: str | None
    filled: bool
    opacity: float
    words: str


def panels(figure: Figure) -> tuple[Panel, ...]:
    """A panel for each visible pair of axes, in reading order; the figure is not changed."""
    with mpl.rc_context(), style.context(STYLE, after_reset=True):
        shown = [axes for axes in figure.axes if axes.get_visible()]
        whole = _plain(figure.get_supylabel())
        return tuple(_panel(axes, whole) for axes in shown)


def key(figure: Figure) -> tuple[Entry, ...]:
    """The entries of the figure's legend, in order."""
    found = [entry for legend in figure.legends for entry in zip(legend.legend_handles, legend.texts, strict=True)]
    with mpl.rc_context(), style.context(STYLE, after_reset=True):
        return tuple(_entry(handle, " ".join(words.get_text().split())) for handle, words in found)


def _panel(axes: Axes, whole: str) -> Panel:
    artists = sorted(axes.get_children(), key=lambda artist: artist.get_zorder())
    strokes = [one for artist in artists if artist is not axes.patch for one in _strokes(axes, artist)]
    return Panel(
        title=_plain(axes.get_title(loc="left") or axes.get_title()),
        x_label=_plain(axes.get_xlabel()),
        y_label=_plain(axes.get_ylabel()) or whole,
        x_ticks=tuple(_ticks(axes, axes.xaxis)),
        y_ticks=tuple(_ticks(axes, axes.yaxis)),
        strokes=tuple(strokes),
        dots=tuple(one for artist in artists for one in _dots(axes, artist)),
        words=tuple(_word(axes, text) for text in axes.texts),
    )


def _strokes(axes: Axes, artist: Artist) -> Iterator[Stroke]:
    match artist:
        case Line2D() if artist.get_linestyle() != "None" and len(artist.get_xdata()):
            colour, width = _colour(artist.get_color()), artist.get_linewidth()
            for places in _unbroken(_shares(axes, artist.get_transform(), _stepped(artist))):
                yield Stroke(colour, _points(places), _dashes(artist), width, filled=False, opacity=1.0)
        case Patch():
            corners = artist.get_path().to_polygons(closed_only=True)
            for polygon in corners:
                places = _shares(axes, artist.get_transform(), np.asarray(polygon))
                yield _area(artist.get_facecolor(), places, artist.get_alpha())
        case PathCollection():
            return
        case Collection():
            for path, face in zip(artist.get_paths(), artist.get_facecolor(), strict=False):
                yield _area(face, _shares(axes, artist.get_transform(), path.vertices), artist.get_alpha())


def _dots(axes: Axes, artist: Artist) -> Iterator[Dot]:
    match artist:
        case PathCollection():
            yield from _scattered(axes, artist)
        case Line2D() if artist.get_marker() not in ("None", None, ""):
            places = _shares(axes, artist.get_transform(), artist.get_xydata())[_marked(artist)]
            path, filled = _marker(artist)
            colour = _colour(artist.get_markeredgecolor())
            yield from (Dot(colour, *_at(place), path, filled, 1.0) for place in places if _inside(place))


def _scattered(axes: Axes, artist: PathCollection) -> Iterator[Dot]:
    """Points of `scatter`: one marker, its size in points squared, one colour for all or one for each."""
    places = _shares(axes, artist.get_offset_transform(), np.ma.filled(artist.get_offsets(), np.nan))
    sizes, faces, edges = artist.get_sizes(), artist.get_facecolor(), artist.get_edgecolor()
    shape = artist.get_paths()[0]
    for number, place in enumerate(places):
        face = faces[number % len(faces)] if len(faces) else None
        edge = edges[number % len(edges)] if len(edges) else face
        if not _inside(place):
            continue
        path = _path(shape, float(np.sqrt(sizes[number % len(sizes)])))
        filled = face is not None and bool(face[3] > 0)
        yield Dot(_colour(face if filled else edge), *_at(place), path, filled, artist.get_alpha() or 1.0)


def _entry(handle: Any, words: str) -> Entry:
    match handle:
        case Line2D():
            line = handle.get_linestyle() != "None"
            path, filled = _marker(handle) if handle.get_marker() not in ("None", None, "") else (None, False)
            colour = handle.get_color() if line else handle.get_markeredgecolor()
            return Entry(_colour(colour), _dashes(handle) if line else None, path, filled, 1.0, words)
        case _:
            colour = handle.get_facecolor()
            return Entry(_colour(colour), None, None, True, handle.get_alpha() or float(colour[3]), words)


def _area(face: Any, places: np.ndarray, alpha: float | None) -> Stroke:
    opacity = float(face[3]) if alpha is None else alpha
    return Stroke(_colour(face), _points(places), "", 0.0, filled=True, opacity=opacity)


def _ticks(axes: Axes, axis: Axis) -> Iterator[Word]:
    """Major ticks that lie inside the axes."""
    across = axis.axis_name == "x"
    locations = np.asarray(axis.get_majorticklocs(), dtype=float)
    labels = axis.get_major_formatter().format_ticks(locations)
    for location, label in zip(locations, labels, strict=True):
        pair = (location, axes.get_ylim()[0]) if across else (axes.get_xlim()[0], location)
        (place,) = _shares(axes, axes.transData, np.array([pair]))
        if _inside(place) and label:
            x, y = _at(place)
            yield Word(x if across else 0.0, 100.0 if across else y, _plain(label), "middle" if across else "end")


def _word(axes: Axes, text: Text) -> Word:
    (place,) = _shares(axes, text.get_transform(), np.array([text.get_position()]))
    return Word(*_at(place), _plain(text.get_text()), ANCHORS[text.get_horizontalalignment()])


def _stepped(line: Line2D) -> Float[np.ndarray, "n 2"]:
    """The points of a line, with the corners of a step where it is one."""
    points = np.asarray(line.get_xydata(), dtype=float)
    if line.get_drawstyle() != "steps-post":
        return points
    corners = np.column_stack([points[1:, 0], points[:-1, 1]])
    return np.insert(points, np.arange(1, len(points)), corners, axis=0)


def _unbroken(places: Float[np.ndarray, "n 2"]) -> list[Float[np.ndarray, "m 2"]]:
    """The parts of a line between places that are missing."""
    known = np.isfinite(places).all(axis=1)
    parts = np.split(places, np.flatnonzero(np.diff(known)) + 1)
    return [part for part in parts if np.isfinite(part[0]).all()]


def _marked(line: Line2D) -> slice:
    every = line.get_markevery()
    return slice(None, None, every if isinstance(every, int) else 1)


def _shares(axes: Axes, transform: Transform, points: np.ndarray) -> Float[np.ndarray, "n 2"]:
    """Points as shares of the axes, upwards, whatever scales they are on."""
    return (transform - axes.transAxes).transform(np.asarray(points, dtype=float).reshape(-1, 2))


def _points(places: np.ndarray) -> str:
    known = np.clip(places[np.isfinite(places).all(axis=1)], -9, 10)
    return " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, y in known)


def _inside(place: np.ndarray) -> bool:
    return bool(np.isfinite(place).all() and (place >= -NEAR).all() and (place <= 1 + NEAR).all())


def _at(place: np.ndarray) -> tuple[float, float]:
    """A place in per cent from the left and from above."""
    return round(100 * float(place[0]), 2), round(100 - 100 * float(place[1]), 2)


def _marker(line: Line2D) -> tuple[str, bool]:
    """The path of a line's marker, in pixels, and whether it is filled."""
    marker = MarkerStyle(line.get_marker())
    shape = marker.get_path().transformed(marker.get_transform())
    face = line.get_markerfacecolor()
    filled = marker.is_filled() and not (isinstance(face, str) and face == "none")
    return _path(shape, line.get_markersize()), filled


def _path(shape: Path, size: float) -> str:
    """A marker, its size in points, as the text of an SVG path in pixels, y downwards."""
    commands = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    out = []
    for vertices, code in shape.iter_segments(simplify=False):
        pairs = np.asarray(vertices).reshape(-1, 2) * size * PIXELS
        places = " ".join(f"{x:.1f} {-y:.1f}" for x, y in pairs)
        out.append("Z" if code == Path.CLOSEPOLY else f"{commands[code]}{places}")
    return "".join(out)


def _dashes(line: Line2D) -> str:
    """Lengths of dashes and gaps in pixels; nothing for a solid line."""
    return DASHES[line.get_linestyle()]


def _colour(colour: Any) -> str:
    """The place of a colour in the palette, as `c0` to `c6`; ink for every other one."""
    palette: Sequence[str] = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    known = (f"c{place}" for place, one in enumerate(palette) if same_color(to_hex(colour), to_hex(one)))
    return next(known, INK)


def _plain(words: str) -> str:
    """A label without the signs of a formula: `$G_{TS}$` as G_TS, which a page sets as a symbol."""
    if "$" not in words:
        return words.replace("$", "").strip()
    words = _SYMBOL.sub(r"_\1", words)
    for sign, shown in SIGNS.items():
        words = words.replace(sign, shown)
    return words.replace("$", "").strip()
