"""The media room of avgen."""
