"""When training is to end before its last step: a signal, or the time it was given."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

import jax
from jax.experimental import multihost_utils

from .multihost import broadcast


class Stopper:
    """While open, SIGTERM no longer ends the process; `reason` says at a step's end why to stop there.

    Processes that train together stop at the same step, whichever of them had the signal.
    """

    def __init__(self, max_minutes: float | None) -> None:
        """The clock starts now."""
        self._deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self._minutes = max_minutes
        self._signalled = False
        self._before: object = None

    def __enter__(self) -> Stopper:
        # Among several processes JAX has a handler of its own. Only the main thread may have one.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True

    def reason(self, step: int, *, check_clock: bool) -> str | None:
        """Why to stop after `step`, or None; among several processes the clock is read only with `check_clock`."""
        alone = jax.process_count() == 1
        if self._signalled or (not alone and multihost_utils.reached_preemption_sync_point(step)):
            return "SIGTERM received"
        if self._deadline is not None and (alone or check_clock) and broadcast(time.monotonic() >= self._deadline):
            return f"the {self._minutes:g} minutes are over"
        return None
