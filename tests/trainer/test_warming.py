from __future__ import annotations

import subprocess
import sys


def test_a_warm_process_has_everything_imported_and_no_device_touched():
    """Once a device is touched, its memory is taken and the numbers of threads can't be changed any more."""
    program = (
        "import sys\n"
        "from trainer.warming import warm_up\n"
        "warm_up()\n"
        "import tensorflow as tf\n"
        "tf.config.threading.set_intra_op_parallelism_threads(3)\n"  # RuntimeError once the context is made
        "before = set(sys.modules)\n"
        "import keras, trainer.fit, trainer.pipeline, trainer.resume\n"
        "from trainer.callback import callbacks\n"
        "callbacks()\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
