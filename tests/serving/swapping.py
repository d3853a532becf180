"""Swap a model of 50 MB twenty times in this process; print its resident megabytes after each swap.

Run in a process of its own, so that nothing else moves its memory: `python swapping.py FOLDER`.
"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

from serving.config_file import ModelSettings
from serving.lifecycle import Models
from serving.loader import LoadOptions, load

SWAPS = 20


class Large(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(7).normal(size=(3500, 3500)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 3500), tf.float32, name="x")])
    def multiply(self, x):
        return {"y": x @ self.weights}


def save(path: str) -> None:
    large = Large()
    tf.saved_model.save(large, path, signatures=large.multiply)


def main(folder: Path) -> None:
    base = folder / "large"
    base.mkdir()
    models = Models(lambda path: load(path, LoadOptions()))
    models.configure([ModelSettings("large", base)])
    x = np.ones((1, 3500), np.float32)
    for number in range(1, SWAPS + 1):
        (base / str(number)).symlink_to(folder / "saved")
        models.reconcile()
        with models.lease("large") as lease:
            lease.servable.run(lease.servable.plan("", ["x"], ()), {"x": x})
        models.reconcile()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print(pages * os.sysconf("SC_PAGE_SIZE") >> 20, flush=True)  # noqa: T201
    models.close()


if __name__ == "__main__":
    if sys.argv[1] == "save":
        save(sys.argv[2])
    else:
        main(Path(sys.argv[1]))
