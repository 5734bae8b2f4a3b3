"""Metrics: pure functions, and a torchmetrics class for each that averages over clips or compares sets."""
