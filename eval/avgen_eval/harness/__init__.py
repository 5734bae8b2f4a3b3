"""The harness: a manifest of clips is extracted once, scored by a suite, and compared between runs."""
