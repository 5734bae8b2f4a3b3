"""What can be measured of a picture or a sound without a model; for evaluation and data preparation."""
