"""Which of two laws, and how many lines? A category and an integer beside continuous parameters."""

import numpy as np

import surrogate

GRID = np.linspace(0.0, 5.0, 40)
SD = 0.15
NOISE = np.random.default_rng(3).normal(0.0, SD, len(GRID))
DATA = 2.0 * np.exp(-0.6 * GRID) + 0.25 * np.exp(-0.5 * ((GRID - 2.0) / 0.2) ** 2) + NOISE


def log_likelihood(law, n_lines, height, rate):
    """A text, a Python int and two floats."""
    model = height * (np.exp(-rate * GRID) if law == "exponential" else (1.0 + GRID) ** (-2.0 * rate))
    for place in (2.0, 3.5)[:n_lines]:
        model = model + 0.25 * np.exp(-0.5 * ((GRID - place) / 0.2) ** 2)
    return -0.5 * np.sum(((DATA - model) / SD) ** 2)


def main():
    prior = {
        "law": surrogate.Parameter("law", categories=["exponential", "power"]),
        "n_lines": surrogate.Parameter("n_lines", integers=(0, 2)),
        "height": (1.0, 3.0),
        "rate": (0.2, 1.2),
    }
    result = surrogate.infer(log_likelihood, prior, seed=1)
    print(result.summary())
    for law, (probability, error) in result.probabilities("law").items():
        print(f"{law}: probability {probability:.3f} +- {error:.3f}")


if __name__ == "__main__":
    main()
