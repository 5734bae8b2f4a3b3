"""The objective room of avgen."""
