"""Every test computes in float64, and every property is tested on the same examples each time."""

import jax
from hypothesis import settings

jax.config.update("jax_enable_x64", True)
settings.register_profile("bench", derandomize=True, deadline=None, max_examples=15, database=None)
settings.load_profile("bench")
