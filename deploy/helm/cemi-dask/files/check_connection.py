"""A client of the scheduler given: a worker answers, with the package, and one that offers GPU."""

import sys

from distributed import Client

address, resource = sys.argv[1], sys.argv[2]


def version() -> str:
    import cemi_dask

    return cemi_dask.__version__


with Client(address, timeout=60) as client:
    client.wait_for_workers(1, timeout=300)
    resources = {resource: 1} if resource else None
    found = client.submit(version, resources=resources, pure=False).result(timeout=300)
    print(f"{address}: a worker{' with ' + resource if resource else ''} has cemi_dask {found}")
