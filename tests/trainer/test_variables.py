"""Variables to arrays and back."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.errors import ResumeError
from trainer.resume import Checkpoint
from trainer.variables import arrays_of, put_back


def test_values_come_back_and_those_of_another_model_are_refused() -> None:
    import keras

    variable = keras.Variable(np.ones((2, 2), np.float32))
    kept = Checkpoint(1, arrays=arrays_of("model", [variable]))
    variable.assign(np.zeros((2, 2)))
    put_back(kept, "model", [variable])
    assert np.array_equal(variable.numpy(), np.ones((2, 2)))
    other = keras.Variable(np.zeros(3, np.float32))
    with pytest.raises(ResumeError, match="model variables are not those of this spec"):
        put_back(kept, "model", [other])
    with pytest.raises(ResumeError, match="model variables are not those of this spec"):
        put_back(kept, "model", [variable, other])
