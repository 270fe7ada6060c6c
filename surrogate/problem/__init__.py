"""Inputs of a run: parameters and priors, targets and their answers, datasets."""
