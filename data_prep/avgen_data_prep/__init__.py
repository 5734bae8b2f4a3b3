"""Data preparation for avgen."""
