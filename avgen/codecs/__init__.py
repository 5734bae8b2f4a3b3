"""The codecs room of avgen."""
