"""Run folders and their checkpoints (orbax). A checkpoint holds all that sampling or continuing needs; no pickle.

RUN/config.json       the settings        RUN/held_out.h5ad     cells never trained on, for evaluation
RUN/metrics.jsonl     loss and speed      RUN/checkpoints/STEP  params, averaged params, optimiser, model.json
RUN/evaluations.jsonl held-out scores     RUN/curve.png         the same as a picture
RUN/training.lock     who is training     RUN/cells.h5ad        prepared cells of a run whose data are streamed
RUN/privacy_key_DO_NOT_PUBLISH.json       what noise follows from, while a run with differential privacy is trained
"""

from .checkpoints import FORMAT, Checkpoints, load_model
from .model import Model, arrays_digest
from .run import FAMILY, Run

__all__ = ["FAMILY", "FORMAT", "Checkpoints", "Model", "Run", "arrays_digest", "load_model"]
