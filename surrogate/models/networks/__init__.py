"""Neural networks as surrogates: wide, plain, trained as kernels of their tangents ask, with calibrated error bars."""
