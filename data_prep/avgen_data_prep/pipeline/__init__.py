"""From a folder of media to a manifest of clips: stages, the ledger that remembers them, and what runs them."""
