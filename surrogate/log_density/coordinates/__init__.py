"""Coordinates of the surrogate: input and output warps, couplings, whitening."""
