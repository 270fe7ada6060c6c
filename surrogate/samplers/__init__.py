"""Sampling of a finished surrogate, and its evidence."""
