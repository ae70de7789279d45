"""Mechanisms of the response cache: what may be stored and served, and where it lies. They know nothing of policies."""
