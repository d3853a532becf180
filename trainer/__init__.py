"""A library: from a training spec to a trained Keras model."""
