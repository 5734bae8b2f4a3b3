"""The ops room of avgen."""
