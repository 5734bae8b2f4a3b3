"""The text room of avgen."""
