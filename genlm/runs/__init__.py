"""A RUN ON DISK."""
