"""Feasibility: classifiers of where the log-likelihood is finite."""
