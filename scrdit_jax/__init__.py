"""Generate faithful synthetic single-cell RNA-seq data with a diffusion transformer.

import scrdit_jax as scrdit
run = scrdit.train(adata, out="run", preset="demo")
cells = scrdit.sample(run, 10_000)
print(scrdit.evaluate(run, cells))
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "assemble",
    "benchmark",
    "evaluate",
    "fit_schedule",
    "generate",
    "import_torch",
    "load_preset",
    "pl",
    "prepare",
    "pretrained",
    "sample",
    "settings",
    "simulate",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    # JAX takes seconds to import; `import scrdit_jax` and `scrdit --help` should not.
    if name == "pl":
        return importlib.import_module(".pl", __name__)
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
