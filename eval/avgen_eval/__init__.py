"""Evaluation of clips with picture and sound."""
