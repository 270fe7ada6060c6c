"""The surrogate of a log-likelihood that compares the outputs of a simulator with data: it learns the outputs."""
