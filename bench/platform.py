"""Settings that JAX reads at start-up: device, host devices, precision, compilation cache."""

import os
import sys
from pathlib import Path

from bench.errors import UserError

THREADS_A_CORE = 4
HOST_DEVICES = "--xla_force_host_platform_device_count"


def cores() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def configure(device: str | None, x32: bool) -> None:
    """Choose the device and the precision, one host device per core, and the user's persistent compilation cache.

    On a CPU one XLA program gains nothing from a second core, as many host devices as cores do. What the environment
    already says is kept. float32 means full precision: the default of some accelerators keeps three digits only.

    Raises:
        UserError: JAX finds no such device here.
    """
    if "jax" not in sys.modules:
        flags = os.environ.get("XLA_FLAGS", "")
        if HOST_DEVICES not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {HOST_DEVICES}={cores()}".strip()
        # a batched factorisation waits inside the pool's threads: as many devices as threads wait for ever
        os.environ.setdefault("NPROC", str(THREADS_A_CORE * cores()))
        if device:
            os.environ["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(device, device)
    import jax

    jax.config.update("jax_enable_x64", not x32)
    jax.config.update("jax_default_matmul_precision", "highest")
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "optimization-theorem-bench" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # without its plugin JAX asserts that there is one
        reason = (str(error) or "JAX has no plugin for it").splitlines()[0]
        raise UserError(f"no {device or 'device'} here: {reason}") from None
