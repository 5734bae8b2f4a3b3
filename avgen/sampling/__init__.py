"""The sampling room of avgen."""
