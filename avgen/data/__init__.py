"""The data room of avgen."""
