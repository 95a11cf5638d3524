"""Sizes at which a benchmark takes no time, to rehearse it: its figures mean nothing."""

from __future__ import annotations

from scrdit_jax.config import RunConfig, load_preset

GENES = 40
NETWORK = {"genes_per_token": 10, "width": 16, "depth": 1, "heads": 2}
DIFFUSION = {"timesteps": 20, "beta_start": 0.01, "beta_end": 0.6}


def sized(preset: str, *, tiny: bool) -> RunConfig:
    """The preset, or with `tiny` the same with few genes, a small network and few timesteps."""
    config = load_preset(preset)
    if not tiny:
        return config
    data = {"genes": GENES, "gene_selection": "all", "min_cells": 0}
    return config.replace({"data": data, "network": NETWORK, "diffusion": DIFFUSION, "training": {"batch_size": 8}})
