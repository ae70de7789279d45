"""From `conf.toml` to a validated document. First `model` (what there is), then `load` (how it is read)."""
