"""The training room of avgen."""
