"""Investments of eleven firms over twenty years (Grunfeld 1958, a table of the package statsmodels).

GPRegressor treats firms as categories, and shows how much depends on the firm, its value, its capital and the year. The
files of statsmodels are read, not its code: pip install statsmodels.
"""

import importlib.util
import math
from csv import DictReader
from pathlib import Path

import numpy as np

from surrogate import GPRegressor

NUMBERS = ("value", "capital", "year")


def rows():
    """Rows of numbers and the firm, and the logarithm of the investment; None without statsmodels."""
    package = importlib.util.find_spec("statsmodels")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "datasets" / "grunfeld" / "grunfeld.csv"
    with path.open(encoding="utf-8") as file:
        table = list(DictReader(file))
    x = [[*(math.log(float(row[name])) for name in NUMBERS), row["firm"]] for row in table]
    return np.array(x, dtype=object), np.log([float(row["invest"]) for row in table])


def main():
    found = rows()
    if found is None:
        print("no log evidence without the table: pip install statsmodels")
        return
    x, y = found
    late = np.exp(x[:, 2].astype(float)) > 1950.5
    model = GPRegressor().fit(x[~late], y[~late])
    mean, sd = model.predict(x[late], return_std=True)
    inside = np.mean(np.abs(mean - y[late]) < 1.645 * sd)
    print(f"log evidence {model.log_marginal_likelihood_:.1f}; {inside:.0%} of the last four years lie inside of 90 %")
    print(f"RMSE of the log investment {np.sqrt(np.mean((mean - y[late]) ** 2)):.2f} of an sd of {y.std():.2f}")
    for part in model.components_:
        print(f"  {' x '.join((*NUMBERS, 'firm')[j] for j in part.columns):18s} {part.share:6.1%} of the variance")


if __name__ == "__main__":
    main()
