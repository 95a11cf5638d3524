"""Signals that wait: what they interrupt is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any


class HeldSignals:
    """While open, Ctrl-C and SIGTERM wait, for `deliver` or the end of the block.

    For what an exception in the middle would leave in a state that it cannot go on from, or take for finished.
    """

    def __init__(self) -> None:
        """None is held yet."""
        self._handlers: dict[int, Callable[..., Any]] = {}
        self._came: list[int] = []

    def __enter__(self) -> HeldSignals:
        if threading.current_thread() is threading.main_thread():  # no other is interrupted
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(handler := signal.getsignal(number)):
                    self._handlers[number] = handler
                    signal.signal(number, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.deliver()

    def _hold(self, number: int, _frame: object) -> None:
        self._came.append(number)

    def deliver(self) -> None:
        """Have the signals that came handled now."""
        came, self._came = self._came, []
        for number in came:
            self._handlers[number](number, None)
