"""A library: from a training spec to a trained Keras model.

`trainer.spec` and everything it imports work without TensorFlow; `trainer.fit` and `trainer.errors` are the
rest of the public part.
"""
