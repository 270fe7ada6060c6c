"""Regions in which a likelihood is finite, and points in and around them."""

import numpy as np

REGIONS = {
    "half plane": lambda u: u[:, 0] < 0.5,
    "disc": lambda u: (u**2).sum(1) < 4,
    "outside of a disc": lambda u: (u**2).sum(1) > 2,
    "all but one": lambda u: np.arange(len(u)) != 3,
    "only one": lambda u: np.arange(len(u)) == 3,
}


def points(n, d=2, *, seed=0):
    return np.random.default_rng(seed).uniform(-3, 3, (n, d))
