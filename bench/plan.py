"""How many lanes go through the engine at once, per device, from measured bytes."""

import os
from dataclasses import dataclass
from functools import cache
from math import ceil

LANES_ON_CPU = 1024  # per device: measured 0.9 of the time of 256 lanes a chunk, more gain nothing
LANES_ON_ACCELERATOR = 1 << 20
DEFAULT_CACHE = 16 << 20


@dataclass(frozen=True)
class Chunk:
    """A block of lanes that goes through the engine together."""

    seeds: int
    settings: int

    @property
    def lanes(self) -> int:
        """Return how many lanes the block holds."""
        return self.seeds * self.settings

    def halved(self) -> "Chunk | None":
        """Return the block with half the lanes: fewer seeds first, then fewer settings; None for a single lane."""
        if self.seeds > 1:
            return Chunk(ceil(self.seeds / 2), self.settings)
        return Chunk(1, ceil(self.settings / 2)) if self.settings > 1 else None


@cache
def cache_bytes() -> int:
    """Return the size of the processor's last-level cache in bytes."""
    try:
        return os.sysconf("SC_LEVEL3_CACHE_SIZE") or DEFAULT_CACHE
    except (ValueError, OSError):
        return DEFAULT_CACHE


def even(total: int, most: int, multiple: int) -> int:
    """Return the block length at most `most` that splits `total` evenly, rounded up to a multiple where possible."""
    blocks = ceil(total / most)
    length = ceil(total / blocks)
    return ceil(length / multiple) * multiple if length > multiple else length


def first_chunk(seeds: int, settings: int, devices: int, on_cpu: bool, own_bytes: int, limit: int) -> Chunk:
    """Return the chunk to try first.

    `own_bytes` is the data that each seed owns (0 when shared). On a CPU the data of the lanes in flight should stay
    in half the cache, and `LANES_ON_CPU` lanes a device are the sweet spot; `limit` bounds the bytes a device may hold.
    """
    most = LANES_ON_CPU if on_cpu else LANES_ON_ACCELERATOR
    settings_at_once = even(settings, most, 1)
    seeds_at_once = max(1, most // settings_at_once)
    if own_bytes:
        room = min(cache_bytes() // 2 // devices, limit // 4) if on_cpu else limit // 4
        seeds_at_once = max(1, min(seeds_at_once, room // own_bytes))
    return Chunk(even(seeds, min(seeds, seeds_at_once * devices), devices), settings_at_once)
