"""Registration: which frames overlap, and by how much they are displaced."""

from cemi_dask.register.options import RegisterOptions
from cemi_dask.register.pair import measure_pair
from cemi_dask.register.register import register

__all__ = ["RegisterOptions", "measure_pair", "register"]
