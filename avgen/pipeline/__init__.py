"""The pipeline room of avgen."""
