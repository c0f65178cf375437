"""Pictures and the table of the simplex witness, from frames that are made up but complete."""

import numpy as np
import pandas as pd
import pytest

from analysis.figures.drawing import saved
from analysis.figures.idea import simplex_picture
from analysis.figures.simplex import ESCAPE_PANELS, escape_panels, margin_energy, stress_grid
from certvae.equilibrium import equilibrium_margin
from certvae.simplex import code_energy, smoothed_one_hot

K = 4
TEACHER = smoothed_one_hot(np.arange(80) % K, K, 0.05)


def rows(alphas: tuple[float, ...] = (1.0,), seeds: int = 3) -> pd.DataFrame:
    """Rows with the columns that the pictures read."""
    modes = {"vae": -2.0, "rst": 1.0, "rst_alpha_prefit": 1.1}
    lines = [
        {
            "study": "made-up",
            "config": f"{alpha:g}" * 8,
            "seed": seed,
            "mode": mode,
            "split": "certify",
            "outcome": "ok",
            "n": 60,
            "data": "digits",
            "substitute": None,
            "teacher_source": "labels",
            "teacher_status": "strict-feasible",
            "teacher_features": "frozen",
            "teacher_seed": np.nan,
            "version_torch": "2.10.0",
            "margin": margin + 0.1 * seed,
            "sampled_margin": margin - 0.3 * alpha,
            "sampled_affine_margin": 1.2 - 0.1 * alpha,
            "alpha_kl": alpha,
            "lambda_ts": 0.0 if mode == "vae" else 1.0,
            "beta": 5.0,
            "mean_square_mu_witness": 3.0 + seed,
        }
        for alpha in alphas
        for seed in range(seeds)
        for mode, margin in modes.items()
    ]
    return pd.DataFrame(lines)


def curves() -> pd.DataFrame:
    points = [
        {
            **rows().iloc[0].to_dict(),
            "mode": mode,
            "seed": seed,
            "epoch": epoch,
            "guard_kl_rate_rest": 2.0,
            **{column: 0.1 + epoch for column, _, _ in ESCAPE_PANELS},
        }
        for mode in ("escape_collapsed", "escape_vae", "escape_prefit")
        for seed in (0, 1)
        for epoch in range(4)
    ]
    return pd.DataFrame(points)


class TestMarginEnergy:
    def test_the_path_ends_at_the_teachers_information_and_the_codes_energy(self):
        figure = margin_energy(rows(), TEACHER, tau=0.1)
        star = next(line for line in figure.axes[0].lines if line.get_marker() == "*")
        info = np.log(K) + (TEACHER[0] * np.log(TEACHER[0])).sum()
        assert np.ravel(star.get_xdata())[0] == pytest.approx(code_energy(TEACHER, 5.0))
        assert np.ravel(star.get_ydata())[0] == pytest.approx(info)

    def test_every_row_is_a_point_at_half_its_square_norm(self):
        figure = margin_energy(rows(), TEACHER, tau=0.1)
        points = np.concatenate(
            [np.asarray(c.get_offsets()) for c in figure.axes[1].collections if len(c.get_offsets())]
        )
        shown = {(round(x, 6), round(y, 6)) for x, y in points}
        expected = {
            (round(r["mean_square_mu_witness"] / 2, 6), round(r["margin"], 6)) for r in rows().to_dict("records")
        }
        assert expected <= shown

    def test_equal_frames_give_equal_bytes(self):
        one, two = (saved(margin_energy(rows(), TEACHER, tau=0.1), "png") for _ in range(2))
        assert one == two


class TestStress:
    def test_the_last_panel_is_the_equilibrium_of_the_weights_in_the_rows(self):
        alphas = (1.0, 2.0, 4.0, 8.0)
        figure = stress_grid(rows(alphas), TEACHER, tau=0.1)
        curve = figure.axes[3].lines[0]
        np.testing.assert_allclose(np.asarray(curve.get_xdata(), dtype=float), alphas)
        expected = [equilibrium_margin(TEACHER, alpha_kl=alpha, lambda_ts=1.0, beta=5.0) for alpha in alphas]
        np.testing.assert_allclose(np.asarray(curve.get_ydata(), dtype=float), expected)

    def test_lines_join_means_over_seeds(self):
        figure = stress_grid(rows((1.0, 2.0)), TEACHER, tau=0.1)
        heights = {tuple(np.round(np.asarray(line.get_ydata(), dtype=float), 6)) for line in figure.axes[0].lines}
        assert (-1.9, -1.9) in heights


class TestEscape:
    def test_one_line_per_start_and_seed_and_the_floor_where_the_force_is(self):
        figure = escape_panels(curves(), tau=0.1, floor=4.7)
        margins, force = figure.axes[0], figure.axes[1]
        assert len(margins.lines) == 3 * 2 + 1  # and the boundary
        assert 4.7 in {float(np.ravel(line.get_ydata())[0]) for line in force.lines}
        assert figure.axes[2].get_yscale() == "log"


class TestIdea:
    def test_the_three_codes_have_the_signs_that_their_titles_say(self):
        titles = [axes.get_title() for axes in simplex_picture().axes]
        margins = [float(title.split("G_0 = ")[1].split(" nats")[0].replace("−", "-")) for title in titles]
        assert margins[0] == 0 > margins[1]
        assert margins[2] > 1
