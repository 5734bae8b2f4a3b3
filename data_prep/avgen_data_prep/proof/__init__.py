"""A corpus whose every cut, event and offset is known, and what the pipeline finds in it."""
