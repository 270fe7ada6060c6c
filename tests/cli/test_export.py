import numpy as np
import pytest
import torch
from torch import nn

from surrogate.cli.main import main
from surrogate.networks.export import load_network
from surrogate.networks.portable import PortableNetwork
from surrogate.rng import generator, torch_generator
from surrogate.storage.arrays import save_arrays


@pytest.fixture
def folder(tmp_path):
    """A network that is right, up to a little noise, on a table with a line of titles."""
    stream = torch_generator(0, "cli export")
    network = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    with torch.no_grad():
        for value in network.parameters():
            value.normal_(generator=stream).div_(value.shape[-1] ** 0.5)
    model = PortableNetwork(np.zeros(3), np.ones(3), 5.0, 1.0, 2.0, (network,))
    save_arrays(tmp_path / "model.npz", model.to_arrays())
    rng = generator(0, "rows")
    x = rng.standard_normal((400, 3))
    with torch.no_grad():
        y = model.module()(torch.from_numpy(x)).numpy() + 0.1 * rng.standard_normal(400)
    np.savetxt(tmp_path / "rows.csv", np.column_stack([x, y]), delimiter=",", header="a,b,c,y", comments="")
    np.savetxt(tmp_path / "rows.txt", np.column_stack([x, y]))
    return tmp_path


def export(folder, *words, table="rows.csv", output="small.npz"):
    return main(
        ["export", str(folder / "model.npz"), "-o", str(folder / output), "--data", str(folder / table), *words]
    )


@pytest.mark.parametrize("table", ["rows.csv", "rows.txt"])
def test_export_prints_what_it_changed(folder, capsys, table):
    assert export(folder, "--precision", "int8", table=table) == 0
    printed = capsys.readouterr()
    assert "bytes" in printed.out
    assert "error" in printed.out
    assert "small.npz" in printed.err
    assert (folder / "small.npz").stat().st_size < (folder / "model.npz").stat().st_size


def test_a_program_of_torch(folder, capsys):
    assert export(folder, "--activations", "dynamic", "-q", output="small.pt2") == 0
    assert capsys.readouterr().out == ""
    assert torch.export.load(folder / "small.pt2").module()(torch.zeros(7, 3).double()).shape == (7,)


def test_pruned_beyond_the_tolerance_is_refused(folder, capsys):
    assert export(folder, "--prune", "0.9", "--steps", "0") == 2
    assert "nothing was written" in capsys.readouterr().err
    assert not (folder / "small.npz").exists()


@pytest.mark.parametrize(
    "words", [["--prune", "1.5"], ["--prune", "x"], ["--steps", "-3"], ["--tolerance", "-1"], ["--precision", "int4"]]
)
def test_words_are_checked(folder, words, capsys):
    with pytest.raises(SystemExit):
        export(folder, *words)
    assert "error: argument" in capsys.readouterr().err


def test_a_file_that_is_no_network_is_told(folder, capsys):
    save_arrays(folder / "model.npz", {"x": np.zeros(3)})
    assert export(folder) == 2
    assert "not a network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "written"),
    [(["no", "yes"], ["no", "yes"]), ([0, 1], ["0", "1"]), ([False, True], ["False", "True"])],
    ids=["words", "numbers", "flags"],
)
def test_export_of_classes(tmp_path, capsys, names, written):
    network = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[-4.0, 0.0], [4.0, 0.0]]))
        network[0].bias.zero_()
    model = PortableNetwork(np.zeros(2), np.ones(2), 5.0, 0.0, 1.0, (network,), np.array(names))
    save_arrays(tmp_path / "model.npz", model.to_arrays())
    x = generator(0, "rows").standard_normal((100, 2))
    lines = [f"{a},{b},{written[int(a > 0)]}" for a, b in x]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,class", *lines]) + "\n")
    assert export(tmp_path) == 0
    assert "wrong classes         0.00% ->      0.00%" in capsys.readouterr().out
    small = load_network(tmp_path / "small.npz")
    assert small.classes.tolist() == names
    assert np.all(small.predict(x).argmax(1) == (x[:, 0] > 0))
