"""Parameters by name, in predictions and plots."""

import numpy as np
import pytest

from surrogate.output.subset import named_points, only
from tests.finished import parts, result


def test_predictions_take_values_by_name():
    made = result()
    mean, sd = made.predict({"H0": [67.0, 68.0], "omega": 0.3})
    expected = made.predict([[0.3, 67.0], [0.3, 68.0]])
    assert mean == pytest.approx(expected[0], abs=0)
    assert sd == pytest.approx(expected[1], abs=0)
    assert made.predict({"omega": 0.3, "H0": 67.0})[0].shape == (1,)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"omega": 0.3}, "missing: H0"),
        ({"omega": 0.3, "h0": 1.0}, "did you mean 'H0'"),
        ({"omega": [0.3, 0.2], "H0": [1.0, 2.0, 3.0]}, "one shape"),
    ],
)
def test_wrong_names_are_refused(points, words):
    with pytest.raises(ValueError, match=words):
        named_points(points, ("omega", "H0"))


def test_some_parameters_in_another_order():
    samples, _, record = parts(result())
    chosen, rest = only(["H0", "omega"], samples, record)
    assert chosen.x == pytest.approx(samples.x[:, ::-1], abs=0)
    assert chosen.labels == ("H_0", r"\Omega_m")
    assert rest.best_fit == pytest.approx(record.best_fit[::-1], abs=0)
    assert only(None, samples, record) == (samples, record)
    with pytest.raises(ValueError, match="unknown parameter 'w'"):
        only(["w"], samples, record)
    with pytest.raises(ValueError, match="different names"):
        only(["H0", "H0"], samples, record)


def test_a_plot_is_a_figure_and_a_file_only_if_wanted(tmp_path):
    figure = result(n=500).plot(parameters=["H0"])
    assert figure.axes[0].get_xlabel() == "$H_0$"
    result(n=500).plot(tmp_path / "corner.png", parameters=["H0"])
    assert (tmp_path / "corner.png").stat().st_size > 1000
    assert np.isfinite(figure.get_size_inches()).all()
