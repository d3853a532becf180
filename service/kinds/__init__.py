"""The kinds of work, one file each; `service.kind` is their contract."""
