"""Surrogates of log-likelihoods: scalar, composite and mixed."""
