"""One module a model kind; each is found by discovery."""
