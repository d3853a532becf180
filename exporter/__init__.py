"""A library: from a trained Keras model to artifacts that are proven to give its answers."""
