"""Wait until the scheduler whose counts.json is given has a worker, at most so many seconds."""

import json
import sys
import time
import urllib.request

url, seconds = sys.argv[1], float(sys.argv[2])
end = time.monotonic() + seconds
told = "it has no worker"
while time.monotonic() < end:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            workers = json.load(answer)["workers"]
        if workers:
            print(f"{workers} workers at {url}")
            sys.exit(0)
        told = "it has no worker"
    except OSError as error:
        told = str(error)
    time.sleep(2)
sys.exit(f"After {seconds:g} s no worker at {url}: {told}. See the pods of scheduler and workers.")
