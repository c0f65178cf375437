"""The simplex witness for four classes, as a picture: what it sees, what pulls a collapsed code apart, what it misses.

    simplex_picture().savefig("simplex.png")

The vertices of a regular simplex in three dimensions are the axes of the witness softmax(beta V mu). Points are means
of one latent each, coloured by the class that the teacher gives them; every margin in a title is computed from them.
Source: arXiv 2605.18224.
"""

from itertools import combinations

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from certvae.simplex import analytic_code, escape_force, smoothed_one_hot, vertices, witness_logits, witness_margin

from .drawing import INK, canvas, drawn, titled

CLASSES, BETA, EPS = 4, 5.0, 0.05
POINTS = 240
SPREAD = 0.1  # of the points around a code; the code itself has length 0.65
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
ELEVATION, AZIMUTH = 14, 80  # degrees
ARROW = 0.55  # length of the longest force that is drawn

Means = Float[np.ndarray, "n 3"]
CAPTION = (
    "K = 4 classes, beta = 5, teacher smoothed by 0.05. A certificate asks for G_0 > 0 and reads the means through the "
    "fixed axes v_1 to v_4 alone. Left: all means are one point, so no constant can pass; the force beta V'(T - S) on "
    "each class points to its own vertex. Middle: a healthy code on other axes is not certified, though the best "
    "rotation of it would be. Right: the same code on the axes of the witness is certified."
)


@drawn
def simplex_picture() -> Figure:
    """Collapsed, healthy on other axes, aligned: three codes and their margins."""
    labels = np.arange(POINTS) % CLASSES
    T = smoothed_one_hot(labels, CLASSES, EPS)
    aligned = analytic_code(T, vertices(CLASSES, 3), BETA) + SPREAD * np.random.default_rng(0).standard_normal(
        (POINTS, 3)
    )
    turned = aligned @ _rotation(np.array([1.0, 0.4, 0.2]), 1.9)
    collapsed = np.zeros((POINTS, 3))
    figure = canvas(10.5, 4.4)
    titles = ("collapsed: nothing to certify", "healthy, other axes: not certified", "aligned: certified")
    for number, (title, mu) in enumerate(zip(titles, (collapsed, turned, aligned), strict=True), start=1):
        axes = Axes3D(figure, figure.add_gridspec(1, 3)[0, number - 1], elev=ELEVATION, azim=AZIMUTH)
        figure.add_axes(axes)
        margin = witness_margin(T, witness_logits(mu, vertices(CLASSES, 3), BETA))
        _frame(axes)
        _points(axes, mu, labels)
        axes.set_title(f"{title}\nG_0 = {margin:.2f} nats".replace("-", "−"), y=0.94)
        if not mu.any():
            _forces(axes, T, mu, labels)
    return titled(figure, "A fixed simplex witness, and what it can certify", CAPTION)


def _frame(axes: Axes3D) -> None:
    """The tetrahedron, its vertices by name, and no box around it."""
    V = vertices(CLASSES, 3)
    for one, two in combinations(V, 2):
        axes.plot(*np.stack([one, two]).T, color=INK, linewidth=0.7)
    for k, (vertex, colour) in enumerate(zip(V, COLOURS, strict=True), start=1):
        axes.plot(*np.stack([np.zeros(3), vertex]).T, color=colour, linewidth=0.8, linestyle=":")
        x, y, z = 1.14 * vertex
        axes.text(x, y, z, f"v_{k}", color=colour, ha="center", va="center", weight="bold")
    axes.set_axis_off()
    axes.set_box_aspect((1, 1, 1))
    axes.set(xlim=(-0.75, 0.75), ylim=(-0.75, 0.75), zlim=(-0.8, 0.55))


def _points(axes: Axes3D, mu: Means, labels: Int[np.ndarray, " n"]) -> None:
    for k, colour in enumerate(COLOURS):
        axes.scatter(*mu[labels == k].T, s=9, color=colour, depthshade=False)


def _forces(axes: Axes3D, T: Float[np.ndarray, "n 4"], mu: Means, labels: Int[np.ndarray, " n"]) -> None:
    """One arrow per class: the force on its points, at a common scale."""
    force = escape_force(T, mu, vertices(CLASSES, 3), BETA)
    scale = ARROW / np.linalg.norm(force, axis=1).max()
    for k, colour in enumerate(COLOURS):
        axes.quiver(*mu[labels == k][0], *(scale * force[labels == k][0]), color=colour, linewidth=2.0)
    axes.scatter(*mu[:1].T, s=36, color=INK, depthshade=False)


def _rotation(axis: Float[np.ndarray, " 3"], angle: float) -> Float[np.ndarray, "3 3"]:
    """Rodrigues' formula; angle in radians."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
