"""Exit status 0 where a dask scheduler or worker of this container answers, else 1.

The ports are those of the image's dashboards; CEMI_HEALTH_PORTS names others, such as "8790".
"""

import os
import sys
import urllib.request

told = []
for port in os.environ.get("CEMI_HEALTH_PORTS", "8787 8788").split():
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            print(f"port {port}: {answer.read().decode()}")
            sys.exit(0)
    except OSError as error:
        told.append(f"port {port}: {error}")
sys.exit("; ".join(told))
