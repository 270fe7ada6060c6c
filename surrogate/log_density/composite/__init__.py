"""The composite surrogate, for log-likelihoods that compare a simulator's outputs with data: it learns the outputs."""
