"""Specs that train as they stand, and the real data that they train on."""
