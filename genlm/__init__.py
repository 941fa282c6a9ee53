"""genlm: the whole life of a generative model, from raw text to served answers."""

__version__ = "0.1.0"
