"""The model room of avgen."""
