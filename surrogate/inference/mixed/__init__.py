"""Posterior runs with categorical and integer parameters: sampling level by level, and level probabilities."""
