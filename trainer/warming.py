"""What a process can do for training before it knows what is to be trained."""

from __future__ import annotations


def warm_up() -> None:
    """Import TensorFlow, Keras and every part of the trainer; no device is touched and no memory taken.

    Which devices TensorFlow may see must be set in the environment before.
    """
    import gc

    import keras
    import polars as pl  # noqa: F401 - what reads tables
    import tensorflow as tf

    import trainer.fit  # noqa: F401
    from trainer.architecture import architectures
    from trainer.callback import callbacks
    from trainer.source import sources

    architectures(), callbacks(), sources()
    # Both load their API in pieces, each when it is first asked for.
    tf.data.Dataset, keras.Sequential  # noqa: B018
    # What was imported stays for good: the collector need not look through it again in each of its rounds,
    # of which tracing a model causes many.
    gc.collect()
    gc.freeze()
