"""Ablations: variants of one small training, same budget, several seeds, one table with intervals per question."""
