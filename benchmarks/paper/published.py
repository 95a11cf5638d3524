"""The figures that scRDiT prints in its tables 1 to 3, to stand beside ours. Its cells are GSE103322 and GSE181297."""

from __future__ import annotations

# By cell type, then by epochs: (KL divergence, Wasserstein distance, MMD).
TABLE_1 = {
    "fibroblast": {200: (4.570, 0.052, 0.128), 400: (4.096, 0.047, 0.066), 600: (4.016, 0.052, 0.084),
                   800: (3.971, 0.026, 0.022)},
    "malignant": {400: (3.798, 0.061, 0.077), 800: (3.117, 0.045, 0.070), 1200: (3.648, 0.023, 0.055),
                  1600: (3.179, 0.007, 0.046)},
    "keloid": {200: (0.149, 0.011, 0.047), 400: (0.145, 0.008, 0.036), 600: (0.143, 0.008, 0.034),
               800: (0.151, 0.005, 0.015)},
    "immune": {400: (6.455, 0.120, 0.116), 800: (7.208, 0.023, 0.071), 1200: (7.405, 0.015, 0.029),
               1600: (7.357, 0.043, 0.041)},
}  # fmt: skip

# By cell type, then by system: MMD.
TABLE_2 = {
    "fibroblast": {"unet": 0.039, "dit": 0.065, "dit-zn": 0.022},
    "malignant": {"unet": 0.066, "dit": 0.053, "dit-zn": 0.046},
    "keloid": {"unet": 0.036, "dit": 0.028, "dit-zn": 0.015},
    "immune": {"unet": 0.054, "dit": 0.061, "dit-zn": 0.030},
}

# By cell type, then by acceleration: (KL divergence, Wasserstein distance, MMD).
TABLE_3 = {
    "fibroblast": {1: (4.057, 0.037, 0.024), 10: (3.971, 0.026, 0.022), 20: (3.988, 0.026, 0.027),
                   50: (3.835, 0.028, 0.048), 100: (3.294, 0.072, 0.138)},
    "malignant": {1: (3.179, 0.007, 0.046), 10: (3.137, 0.007, 0.051), 20: (3.117, 0.007, 0.057),
                  50: (3.052, 0.012, 0.061), 100: (2.960, 0.029, 0.099)},
    "keloid": {1: (0.157, 0.006, 0.020), 10: (0.151, 0.005, 0.015), 20: (0.149, 0.006, 0.017),
               50: (0.132, 0.012, 0.066), 100: (0.127, 0.020, 0.211)},
    "immune": {1: (7.405, 0.015, 0.029), 10: (7.097, 0.012, 0.030), 20: (7.230, 0.015, 0.036),
               50: (6.995, 0.029, 0.064), 100: (6.629, 0.039, 0.158)},
}  # fmt: skip


def published_type(name: str) -> str | None:
    """The paper's cell type that a set of cells called `name` is of, if any: "Fibroblast" is "fibroblast"."""
    return next((known for known in TABLE_1 if name.lower().startswith(known)), None)
