"""Feasibility: where the log-likelihood is finite."""
