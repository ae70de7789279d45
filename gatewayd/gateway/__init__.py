"""The data path: a document is built into a snapshot, an exchange matched to its route and run through it."""
