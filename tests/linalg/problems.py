"""Points and values for the tests of linear algebra."""

import torch


def seeded(seed=0, device="cpu"):
    return torch.Generator(device=device).manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64, device="cpu"):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed)).to(dtype=dtype, device=device)


def log_posterior(n, d=8, seed=0):
    """A correlated Gaussian log-density with a quadratic banana, at 0.5 to 2.2 sigma, in the unit box, standardised."""
    generator = seeded(seed)
    a = torch.randn(d, d, dtype=torch.float64, generator=generator)
    root = torch.linalg.cholesky(a @ a.T / d + 0.5 * torch.eye(d, dtype=torch.float64))
    z = torch.randn(n, d, dtype=torch.float64, generator=generator)
    z *= 0.5 + 1.7 * torch.rand(n, 1, dtype=torch.float64, generator=generator)
    x = z @ root.T
    x[:, 1] += 0.3 * (x[:, 0] ** 2 - 1.0)
    low, high = x.min(0).values, x.max(0).values
    y = -0.5 * z.square().sum(1)
    return (x - low) / (high - low), (y - y.mean()) / y.std()


def clustered(n, seed=0, spread=0.02, box=60.0, clusters=20, outliers=60):
    """Tight clusters with nearly all of the points, and outliers in a box of their own."""
    generator = seeded(seed)
    centers = 60.0 * torch.rand(clusters, 3, dtype=torch.float64, generator=generator)
    each = (n - outliers) // clusters
    near = centers.repeat_interleave(each, 0)
    near = near + spread * torch.randn(len(near), 3, dtype=torch.float64, generator=generator)
    far = 200.0 + box * torch.rand(n - len(near), 3, dtype=torch.float64, generator=generator)
    return torch.cat([near, far])
