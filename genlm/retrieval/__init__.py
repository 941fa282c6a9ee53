"""MEANING AND MEMORY: texts as vectors, and what stands near a question."""
