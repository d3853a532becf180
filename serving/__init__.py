"""A library: the layout of the model store, and the server end of TensorFlow Serving's protocol."""
