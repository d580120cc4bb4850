#!/usr/bin/env bash
# Stops what start.sh has started in DIR; munged stays.
dir=${1:?the folder given to start.sh}
for daemon in slurmctld slurmd; do
  [ -f "$dir/run/$daemon.pid" ] && kill "$(cat "$dir/run/$daemon.pid")"
done
exit 0
