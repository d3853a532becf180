"""One module a kind of column; each is found by discovery."""
