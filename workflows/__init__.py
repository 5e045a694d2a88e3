"""Workflows that ship with Anyloom: JSON files, and the media they load."""
