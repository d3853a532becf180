"""One module a data format; each is found by discovery."""
