"""Timed captions of clips: detectors give the intervals, a captioner writes the words, checks have the last say."""
