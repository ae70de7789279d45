"""What may answer an exchange: a service through the proxy, a redirection, a reply from the configuration."""
