"""Proof of every call: records in hash-chained, signed files, and what reads and verifies them."""
