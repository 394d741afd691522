"""The machinery that pairs problems with algorithms:  `from bench import solve, sweep`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import solve, sweep

__all__ = ["solve", "sweep"]


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is first asked for, so that the command line starts without JAX."""
    if name in __all__:
        from bench import api

        return getattr(api, name)
    raise AttributeError(name)
