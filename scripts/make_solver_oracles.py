"""Write tests/oracles/solvers.json: where diffusers' schedulers carry fixed starts, with a denoiser in closed form.

Made once, with Python 3.11, diffusers 0.42.1, torch 2.13.0 (CPU) and numpy 2.4, in an environment of its own; the
project depends on none of the first two:

    python -m venv oracles && oracles/bin/pip install torch==2.13.0 diffusers==0.42.1
    oracles/bin/python scripts/make_solver_oracles.py

Nothing here is imported from scrdit_jax. Where diffusers differs by convention, the numbers are taken at the level
where both mean the same thing:

- Timesteps. diffusers counts 0..T-1, the paper 1..T: every timestep in the file is the paper's, diffusers' plus 1, so
  that abar_t = alphas_cumprod[t - 1]. All lists are explicit; nothing rests on anyone's spacing rules.
- DDIM. `DDIMScheduler.step` takes the previous timestep to be t - T // steps whatever list it was given, so it is an
  oracle only where that is true: "trailing" spacing with steps that divide T, as in 1000, 900, ..., 100. These lists
  do not end at 1: the last step leads from there to abar = 1 (`set_alpha_to_one`, here as there).
- DDPM. "fixed_large" is sigma^2 = beta, "fixed_small" the posterior variance. On a sub-sequence diffusers takes
  beta = 1 - abar_t / abar_next, as we do. It leaves out the noise when its timestep is 0, we leave it out in the step
  to t = 0: the same for every list that ends at 1, and only such are used. Clipping is off.
- DPM-Solver++(2M). `final_sigmas_type="zero"`: the last step goes to abar = 1 and is of first order, and so is the
  first. With fewer than 15 steps `lower_order_final` would ask for the same of the last step and no other.
- The stochastic 2M and UniPC (second order, "bh2"): likewise. There is no oracle here for 3M: diffusers' halves the
  second difference and is of second order. That ours is of third, and exact for what is quadratic in lambda, is tested.
- Precision. diffusers computes tables and carries DPM-Solver's state in float32. Here `torch.float32` means float64
  while a scheduler is made and run, and the sigmas, cast by NumPy, are put back in float64: only dtypes change.

The file, one JSON object; arrays are nested lists; shapes in brackets:

    made_with   versions
    schedule    timesteps T, beta_start, beta_end (linear)
    denoisers   by name: weights [K], means [K, gene], variances [K, gene] of a mixture of Gaussians, each gene by
                itself. The network's stand-in predicts eps = (x - sqrt(abar) E[x0 | x]) / sqrt(1 - abar).
    start       [cell, gene], x at the first timestep
    noise       [T, cell, gene]; step i (0, 1, ...) of a stochastic solver adds noise[i]
    cases       a list of: solver and options (as ours are named), denoiser (a name), timesteps [steps],
                states [[steps done, [cell, gene]], ...]; the last is the result
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm, scheduling_dpmsolver_multistep

TARGET = Path(__file__).parents[1] / "tests" / "oracles" / "solvers.json"
TIMESTEPS, BETA_START, BETA_END = 1000, 1e-4, 0.02
COMMON = {
    "num_train_timesteps": TIMESTEPS,
    "beta_start": BETA_START,
    "beta_end": BETA_END,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}
ALPHA_BARS = np.cumprod(1 - np.linspace(BETA_START, BETA_END, TIMESTEPS))
# One mode a gene, then two as zero-negated genes have: a narrow one for zeros, a broad one for what is expressed.
DENOISERS = {
    "gaussian": {"weights": [1.0], "means": [[0.3, -1.5, 2.0]], "variances": [[0.25, 0.04, 1.7]]},
    "two_modes": {
        "weights": [0.7, 0.3],
        "means": [[-0.6, -0.4, -1.0], [1.4, 2.5, 0.8]],
        "variances": [[0.01, 0.01, 0.02], [0.3, 0.1, 0.5]],
    },
}


def predicted_noise(denoiser: dict[str, list], x: np.ndarray, t: int) -> np.ndarray:
    """eps(x, t) of the mixture, float64 (cell, gene); t is diffusers' timestep, 0..T-1."""
    abar = ALPHA_BARS[t]
    weights, means, variances = (np.array(denoiser[k])[:, None] for k in ("weights", "means", "variances"))
    spread = abar * variances + 1 - abar
    distance = x - np.sqrt(abar) * means
    density = weights[..., None] * np.exp(-0.5 * distance**2 / spread) / np.sqrt(spread)
    clean = np.sum(density * (means + np.sqrt(abar) * variances / spread * distance), 0) / np.sum(density, 0)
    return (x - np.sqrt(abar) * clean) / np.sqrt(1 - abar)


def spaced(name: str, steps: int) -> list[int]:
    """`steps` distinct timesteps from T to 1, as the paper counts: equal steps in t, in sqrt(t) or in log-SNR."""
    t = np.arange(1, TIMESTEPS + 1)
    height = {"uniform": t, "quadratic": np.sqrt(t), "logsnr": np.log((1 - ALPHA_BARS) / ALPHA_BARS)}[name]
    taus = np.rint(np.interp(np.linspace(height[0], height[-1], steps), height, t)).astype(int)
    for i in range(1, steps):
        taus[i] = max(taus[i], taus[i - 1] + 1)
    return taus[::-1].tolist()


def drive(scheduler: Any, denoiser: dict[str, list], start: np.ndarray, noise: np.ndarray, **options) -> list:
    """The states of one run at a quarter, a half, three quarters and the end."""
    steps = len(scheduler.timesteps)
    kept = {steps // 4, steps // 2, 3 * steps // 4, steps}
    x, states = torch.tensor(start), []
    for i, t in enumerate(scheduler.timesteps):
        eps = torch.tensor(predicted_noise(denoiser, x.numpy(), int(t)))
        draw = mock.Mock(return_value=torch.tensor(noise[i]))
        with (
            mock.patch.object(scheduling_ddpm, "randn_tensor", draw),
            mock.patch.object(scheduling_ddim, "randn_tensor", draw),
            mock.patch.object(scheduling_dpmsolver_multistep, "randn_tensor", draw),
        ):
            x = scheduler.step(eps, t, x, **options).prev_sample
        assert x.dtype == torch.float64
        if i + 1 in kept:
            states.append([i + 1, np.round(x.numpy(), 10).tolist()])
    return states


def cases(denoiser: dict[str, list], start: np.ndarray, noise: np.ndarray) -> Iterator[dict[str, Any]]:
    """Every scheduler with every list of timesteps it is trusted with."""

    def case(solver: str, scheduler: Any, options: dict[str, Any], **step_options) -> dict[str, Any]:
        taus = (scheduler.timesteps + 1).tolist()
        states = drive(scheduler, denoiser, start, noise, **step_options)
        return {"solver": solver, "options": options, "timesteps": taus, "states": states}

    for variance, name in (("beta", "fixed_large"), ("posterior", "fixed_small")):
        for taus in (list(range(TIMESTEPS, 0, -1)), spaced("quadratic", 50), spaced("uniform", 20)):
            scheduler = diffusers.DDPMScheduler(**COMMON, variance_type=name, clip_sample=False)
            scheduler.set_timesteps(timesteps=[t - 1 for t in taus])
            yield case("ddpm", scheduler, {"variance": variance})
    for steps in (10, 50):
        for eta in (0.0, 0.5, 1.0):
            scheduler = diffusers.DDIMScheduler(
                **COMMON, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
            )
            scheduler.set_timesteps(steps)
            yield case("ddim", scheduler, {"eta": eta}, eta=eta)
    multistep = {"solver_type": "midpoint", "algorithm_type": "dpmsolver++"}
    exponential = {
        "dpmpp-2m": (diffusers.DPMSolverMultistepScheduler, multistep | {"solver_order": 2}),
        "dpmpp-2m-sde": (
            diffusers.DPMSolverMultistepScheduler,
            multistep | {"solver_order": 2, "algorithm_type": "sde-dpmsolver++"},
        ),
        "unipc": (diffusers.UniPCMultistepScheduler, {"solver_order": 2, "solver_type": "bh2"}),
    }
    for solver, (kind, own) in exponential.items():
        for spacing in ("uniform", "quadratic", "logsnr"):
            for steps in (10, 20, 50):
                scheduler = kind(**COMMON, **own, final_sigmas_type="zero")
                taus = torch.tensor([t - 1 for t in spaced(spacing, steps)])
                scheduler.set_timesteps(steps)
                scheduler.timesteps = taus
                abar = scheduler.alphas_cumprod[taus]
                scheduler.sigmas = torch.cat([((1 - abar) / abar) ** 0.5, torch.zeros(1, dtype=torch.float64)])
                yield case(solver, scheduler, {})


def main() -> None:
    """Make every case and write the file, one case a line."""
    random = np.random.default_rng(20_240)
    start = np.round(random.standard_normal((2, 3)), 4)
    noise = np.round(random.standard_normal((TIMESTEPS, 2, 3)), 4)
    with mock.patch.object(torch, "float32", torch.float64):
        made = [
            {"denoiser": name, **case} for name, denoiser in DENOISERS.items() for case in cases(denoiser, start, noise)
        ]
    head = {
        "made_with": {
            "python": platform.python_version(),
            "diffusers": diffusers.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "schedule": {"timesteps": TIMESTEPS, "beta_start": BETA_START, "beta_end": BETA_END},
        "denoisers": DENOISERS,
        "start": start.tolist(),
        "noise": noise.tolist(),
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in head.items()]
    lines.append('"cases": [\n' + ",\n".join(json.dumps(c, separators=(",", ":")) for c in made) + "\n]")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(made)} cases, {TARGET.stat().st_size} bytes: {TARGET}")


if __name__ == "__main__":
    main()
