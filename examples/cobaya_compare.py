"""Our sampler and Cobaya's mcmc on the same model, side by side: python cobaya_compare.py PACKAGES [FOLDER].

PACKAGES is the folder that cobaya-install fills, with bao.desi_dr2.desi_bao_all, sn.union3 and camb. The mcmc chain
starts from the covariance matrix that our run has written. Prints the calls of the likelihood and the means of both.
"""

import copy
import sys
from pathlib import Path

import numpy as np


def main(packages=None, folder="chains"):
    if packages is None:
        print(__doc__)
        return
    from cobaya.log import LoggedError
    from cobaya.run import run
    from cobaya.yaml import yaml_load_file

    info = yaml_load_file(str(Path(__file__).with_name("cobaya_background.yaml"))) | {"packages_path": packages}
    ours, theirs = f"{folder}/surrogate", f"{folder}/mcmc"
    _, surrogate = run(copy.deepcopy(info), output=ours, force=True)
    info["sampler"] = {"mcmc": {"covmat": f"{ours}.covmat", "Rminus1_stop": 0.01, "Rminus1_cl_stop": 0.1, "seed": 1}}
    try:
        _, mcmc = run(info, output=theirs, force=True)
    except LoggedError as error:
        sys.exit(str(error))
    chain = mcmc.samples(skip_samples=0.3)
    result = surrogate.products()["result"]

    print(f"calls of the likelihood: {result.n_evaluations} and {mcmc.n_steps_raw}")
    d = len(result.names)
    mean, sd = chain.mean()[:d], np.sqrt(np.diag(chain.cov()))[:d]
    for name, a, b, s, ratio in zip(result.names, result.mean, mean, sd, result.sd / sd, strict=True):
        print(f"{name:10s} {a:10.5g} {b:10.5g}   {(a - b) / s:+.3f} sd, ratio of sds {ratio:.3f}")
    plot([ours, theirs], list(result.names), f"{folder}/compared.png")


def plot(roots, names, path):
    from getdist import loadMCSamples, plots

    samples = [loadMCSamples(str(Path(roots[0]).resolve()), no_cache=True)]
    samples.append(loadMCSamples(str(Path(roots[1]).resolve()), no_cache=True, settings={"ignore_rows": 0.3}))
    plotter = plots.get_subplot_plotter()
    plotter.triangle_plot(samples, [*names, "omegam"], filled=True, legend_labels=["surrogate", "mcmc"])
    plotter.export(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
