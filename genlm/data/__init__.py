"""TEXT -> DOCUMENTS -> TOKENS -> BATCHES. Nothing here needs jax to be loaded."""
