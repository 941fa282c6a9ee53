"""TOKENS -> MORE TOKENS. This room knows token ids only."""
