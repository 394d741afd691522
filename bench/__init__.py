"""The machinery that pairs problems with algorithms:  `from bench import sweep`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import sweep

__all__ = ["sweep"]


def __getattr__(name: str) -> Any:
    """Import the Python interface when it is first asked for, so that the command line starts without JAX."""
    if name == "sweep":
        from bench.api import sweep

        return sweep
    raise AttributeError(name)
