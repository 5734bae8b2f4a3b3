"""Captions written by people: the files that keep them, and a local page to write them in."""
