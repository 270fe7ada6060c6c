"""Surrogates of log-likelihoods with categorical and integer parameters."""
