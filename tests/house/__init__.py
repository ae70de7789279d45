"""The house's rules: what reviews would otherwise have to look for."""
