"""Small networks with normal weights."""

import torch
from torch import nn


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(*modules, sd=0.5):
    model = nn.Sequential(*modules).double()
    for k, p in enumerate(model.parameters()):
        p.data = sd * normal(*p.shape, seed=100 + k)
    return model
