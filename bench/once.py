"""Compute each thing once, whichever thread asks first."""

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class Once(Generic[V]):
    """A table of values by key; a value is made by the first who asks for it, the others wait."""

    def __init__(self):
        self.lock = Lock()
        self.values: dict[Hashable, Future[V]] = {}

    def __call__(self, key: Hashable, make: Callable[[], V]) -> tuple[V, bool]:
        """Return the value of `key` and whether this call made it."""
        with self.lock:
            mine = key not in self.values
            future = self.values.setdefault(key, Future())
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
                raise
        return future.result(), mine

    def __len__(self) -> int:
        return len(self.values)
