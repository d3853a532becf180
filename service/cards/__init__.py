"""Model cards: what a version is, for people."""
