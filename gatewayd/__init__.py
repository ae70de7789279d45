"""gatewayd: an API gateway you can hold in one hand."""

__version__ = "0.1.0"
