"""Torch side of the picture generators; nothing here knows the graph engine."""
