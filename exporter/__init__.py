"""A library: from a trained Keras model to artifacts that are proven to give its answers.

`exporter.entries.ExportEntry` is one wish in a job's spec, `exporter.export.export` fulfils a list of them.
"""
