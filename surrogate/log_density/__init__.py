"""The surrogate of a log-likelihood."""
