"""The client of fitserve and TensorFlow Serving: jobs over HTTP, predictions over gRPC."""
