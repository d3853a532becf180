"""Every figure that the README quotes, each with its command: `.venv/bin/python -m benchmarks.NAME`."""
