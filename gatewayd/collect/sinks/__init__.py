"""Where call records go besides the store: one file per kind, and what they have in common."""
