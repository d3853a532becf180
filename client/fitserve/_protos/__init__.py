"""Generated from client/protos by `make protos`: the wire of TensorFlow Serving, in a package of our own."""
