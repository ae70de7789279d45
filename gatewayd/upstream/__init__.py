"""Upstreams: their targets, who serves an exchange, who may, whether to try again, pooled connections."""
