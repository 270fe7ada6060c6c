"""Posterior runs: from a log-likelihood and a prior to weighted samples and an evidence."""
