import math

from trainer.watch import metrics_of


def test_metrics_are_floats_and_only_finite_ones():
    import numpy as np

    assert metrics_of({"loss": np.float32(0.5), "auc": math.nan, "max": math.inf}) == {"loss": 0.5}
