"""One module a callback, under Keras's names; each is found by discovery."""
