"""Tables against numbers made with diffusers' schedulers; scripts/make_solver_oracles.py says how, and the file's form.

The file counts timesteps as the paper does, and holds only what both sides mean the same by.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from scrdit_jax.config import DiffusionConfig
from scrdit_jax.diffusion.predictions import Epsilon
from scrdit_jax.diffusion.schedule import linear_schedule
from scrdit_jax.sampling.solvers import SOLVERS, make_coefficients, noise_levels

ORACLES = json.loads((Path(__file__).parents[1] / "oracles" / "solvers.json").read_text())


def name_of(case: dict) -> str:
    options = " ".join(f"{value}" for value in case["options"].values())
    taus = case["timesteps"]
    return f"{case['denoiser']} {case['solver']} {options} {len(taus)} steps, {taus[0]} {taus[1]}..{taus[-1]}"


def predicted_noise(denoiser: dict[str, list], x: np.ndarray, alpha_bar: float) -> np.ndarray:
    """eps = (x - sqrt(abar) E[x0 | x]) / sqrt(1 - abar) of a mixture of Gaussians, gene by gene."""
    weights, means, variances = (np.array(denoiser[k])[:, None] for k in ("weights", "means", "variances"))
    spread = alpha_bar * variances + 1 - alpha_bar
    distance = x - np.sqrt(alpha_bar) * means
    density = weights[..., None] * np.exp(-0.5 * distance**2 / spread) / np.sqrt(spread)
    clean = (density * (means + np.sqrt(alpha_bar) * variances / spread * distance)).sum(0) / density.sum(0)
    return (x - np.sqrt(alpha_bar) * clean) / np.sqrt(1 - alpha_bar)


@pytest.mark.parametrize("case", ORACLES["cases"], ids=name_of)
def test_a_table_leads_where_diffusers_scheduler_does(case, walk):
    schedule = linear_schedule(DiffusionConfig(**ORACLES["schedule"]))
    levels = noise_levels(schedule, np.array(case["timesteps"]))
    table = make_coefficients(case["solver"], levels, **case["options"])
    denoiser, noise = ORACLES["denoisers"][case["denoiser"]], np.array(ORACLES["noise"])

    def predict_clean(x: np.ndarray, alpha_bar: float) -> np.ndarray:
        return Epsilon().clean(x, predicted_noise(denoiser, x, alpha_bar), alpha_bar)

    states = walk(table, np.array(ORACLES["start"]), predict_clean, noise=lambda i: noise[i])
    for done, wanted in case["states"]:
        # 1e-5 is what is asked; both sides are float64, so a coefficient wrong in its eighth digit shows.
        np.testing.assert_allclose(states[done], wanted, atol=1e-8)


def test_the_oracles_cover_every_solver_and_both_denoisers():
    """But for a solver of third order that diffusers has not, and one whose clean cells are drawn: its own tests."""
    covered = {(case["solver"], case["denoiser"]) for case in ORACLES["cases"]}
    others = set(SOLVERS) - {"dpmpp-3m", "distributional"}
    assert covered == {(solver, denoiser) for solver in others for denoiser in ("gaussian", "two_modes")}
