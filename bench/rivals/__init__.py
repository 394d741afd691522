"""What the engine is measured against: for each work a hand-written batched JAX loop, and the same loop in NumPy or
PyTorch.

Every contender gets the engine's own lanes (data, keys, settings) and checkpoints, and returns the metric at the last
one.
"""
