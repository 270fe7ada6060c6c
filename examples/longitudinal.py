"""Repeated measurements of subjects: shared, group and subject effects as an additive process of age.

    y = f(age) + f_group(age) + offset_subject + f_subject(age) + noise

The approximate posterior by basis functions is compared with the exact one.
"""

import numpy as np
import torch

from surrogate.gp import AdditiveBasis, Component, Data, ZeroSum, fit_additive
from surrogate.gp.additive_basis import Sums
from surrogate.gp.additive_reduction import reduced

SUBJECTS, VISITS, AGE, SUBJECT, GROUP = 16, 12, 0, 1, 2


def simulated(seed=0):
    """Age in decades, subject, group (cases and controls) and the measured value; the groups part with age."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(SUBJECTS), VISITS)
    age, group = rng.uniform(0.0, 6.0, len(subject)), subject % 2
    disease = np.where(group == 1, 1.0, -1.0) / (1.0 + np.exp(-2.0 * (age - 3.0)))
    truth = np.sin(age) + disease + rng.normal(0.0, 0.5, SUBJECTS)[subject]
    return np.column_stack([age, subject, group]), truth + rng.normal(0.0, 0.3, len(age))


def main():
    x, y = simulated()
    u, centred = torch.as_tensor(x), torch.as_tensor(y - y.mean())
    components = [
        Component.of(u, numbers=[AGE], name="age"),
        Component.of(u, numbers=[AGE], categories={GROUP: ZeroSum(2)}, name="age x group"),
        Component.of(u, categories={SUBJECT: ZeroSum(SUBJECTS)}, name="subject"),
        Component.of(u, numbers=[AGE], categories={SUBJECT: ZeroSum(SUBJECTS)}, functions=10, name="age x subject"),
    ]
    basis = AdditiveBasis.of(components, u, centred)
    posterior = fit_additive(basis)
    exact = basis.process.with_vector(posterior.vector).condition(Data.of(x, centred.numpy()))
    gap = float((posterior.mean(u) - exact.mean(u)).abs().max())
    print(f"log evidence {posterior.log_evidence:.2f} by {len(posterior.coefficients())} functions, ", end="")
    print(f"{exact.log_evidence:.2f} exact; means differ by up to {gap:.4f}, the noise is 0.3")
    for name, share in zip([*(part.name for part in components), "noise"], posterior.shares(), strict=True):
        print(f"  {name:15s} {share:6.1%} of the variance")
    size = len(posterior.coefficients())
    folds = [Sums.of(basis.features, u[k::5], centred[k::5], size) for k in range(5)]
    kept = [part.name for part in reduced(posterior, folds).posterior.basis.components]
    print(f"predictions need: {', '.join(kept)}")


if __name__ == "__main__":
    main()
