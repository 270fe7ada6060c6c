"""A least-squares support vector machine learns from many points where a likelihood is possible at all.

It takes more points than scikit-learn's SVC can, on a GPU with ``device="cuda"``, and its model is a text file in
LIBSVM's format: ``surrogate svm-train`` and ``surrogate svm-predict`` do the same from the command line.
"""

import numpy as np

import surrogate
from surrogate.svm.libsvm import read_machine, write_libsvm, write_machine


def possible(x):
    """The points for which a model exists: inside of a bent ellipsoid."""
    bent = x[:, 0] + 0.3 * (x[:, 1] ** 2 - 1.0)
    return bent**2 + (x[:, 1:] ** 2).sum(1) < 6.0


def main():
    rng = np.random.default_rng(0)
    x, new = rng.standard_normal((4000, 6)), rng.standard_normal((2000, 6))
    machine = surrogate.LSSVC(C=10.0, solver="cg", rank=300).fit(x, possible(x))
    right = (machine.predict(new) == possible(new)).mean()
    print(f"{len(x)} calls of the likelihood gave a label; {100 * right:.1f} % of new labels are right")
    print(f"{machine.n_iter_} products with the kernel matrix, which was never stored")

    write_libsvm("labels.txt", x[:5], possible(x[:5]))
    write_machine("feasible.model", machine.to_file())
    again = surrogate.LSSVC.of_file(read_machine("feasible.model"))
    print(f"the same labels from the file: {bool((again.predict(new) == machine.predict(new)).all())}")


if __name__ == "__main__":
    main()
