"""Batches made while the device is at work on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

BATCHES_AHEAD = 4


def prefetched(make: Callable[[int], Any], first: int, last: int) -> Iterator[Any]:
    """make(first), ..., make(last - 1), each made in order in another thread, a few before they are asked for."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting: deque = deque()
        try:
            for number in range(first, last):
                waiting.append(thread.submit(make, number))
                if len(waiting) > BATCHES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
