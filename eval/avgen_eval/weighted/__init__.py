"""Metrics whose weights the user brings: where weights come from, and what each metric does around its network."""
