"""Mechanisms of identity: consumers, credentials, keys, tokens. They know nothing of policies."""
