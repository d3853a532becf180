"""The formats, one module each; see `exporter.format` for what a module declares."""
