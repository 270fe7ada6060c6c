"""Evidences: marginal likelihoods of a process and their gradients, exact and approximate."""
