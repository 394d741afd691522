"""Every test computes in float64, and every property is tested on the same examples each time.

XLA does not optimise here: the tests run briefly, and most of their time is compilation.
"""

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()

import jax
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
settings.register_profile("bench", derandomize=True, deadline=None, max_examples=15, database=None)
settings.load_profile("bench")
