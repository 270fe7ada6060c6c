"""Inputs of a run: parameters and priors, targets and their return values, datasets."""
