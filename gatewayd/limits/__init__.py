"""Mechanisms of limits: counters that are one for the whole machine. They know nothing of policies."""
