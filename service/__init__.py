"""The trunk of fitserve: HTTP API, records, queue, workers and the embedded stack."""
