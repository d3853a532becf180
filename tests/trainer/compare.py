"""How two runs are compared."""

import numpy as np


def same_weights(one, other):
    """Whether two models hold the same weights, to the bit."""
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
