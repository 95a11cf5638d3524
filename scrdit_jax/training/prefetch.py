"""Batches made while the device is at work on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

BATCHES_AHEAD = 4


def prefetched(make: Callable[[int], Any], numbers: Iterable[int]) -> Iterator[Any]:
    """make(number) for each of the `numbers`, made in order in another thread, a few before they are asked for."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting: deque = deque()
        try:
            for number in numbers:
                waiting.append(thread.submit(make, number))
                if len(waiting) > BATCHES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
