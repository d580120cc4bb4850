"""cemi_dask: noisy electron-microscope videos to one picture of an ingot and its microstructure."""

__version__ = "0.1.0"
