#!/usr/bin/env bash
# A real single-node SLURM on a Debian machine, for the tests marked `slurm`: as root, no systemd.
#   apt-get install -y --no-install-recommends slurm-wlm slurm-client munge
#   tests/slurm/start.sh DIR && export SLURM_CONF=DIR/slurm.conf
# Ends with status 77 and a line that says why where this machine cannot do it. Meant for machines
# that are thrown away: it adds this host to /etc/hosts and makes a munge key where there is none.
set -euo pipefail
dir=${1:?a folder for the state}
cannot() { echo "no SLURM here: $*"; exit 77; }

[ "$(id -u)" = 0 ] || cannot "not root"
for command in slurmctld slurmd munged sinfo runuser; do
  command -v "$command" > /dev/null || cannot "$command is not installed"
done
mkdir -p "$dir"/{state,spool,log,run}
dir=$(cd "$dir" && pwd)
host=$(hostname -s)
memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)

mkdir -p /run/munge /var/log/munge /var/lib/munge
if [ ! -f /etc/munge/munge.key ]; then
  (umask 077 && dd if=/dev/urandom bs=1 count=1024 of=/etc/munge/munge.key status=none)
fi
chown -R munge: /etc/munge /run/munge /var/log/munge /var/lib/munge
getent hosts "$host" > /dev/null || echo "127.0.0.1 $host" >> /etc/hosts
munge -n > /dev/null 2>&1 || runuser -u munge -- /usr/sbin/munged || cannot "munged does not start"

# More CPUs than there are (config_overrides), so that two workers and a GPU worker find room.
cat > "$dir/slurm.conf" << CONF
ClusterName=cemi
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=2
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN
PartitionName=cpu Nodes=$host Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=$host MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$dir/slurm.conf"
slurmctld -f "$SLURM_CONF" || cannot "slurmctld does not start, see $dir/log"
slurmd -f "$SLURM_CONF" || cannot "slurmd does not start, see $dir/log"
for _ in $(seq 30); do
  sinfo -h -o %T 2> /dev/null | grep -qE 'idle|mixed|alloc' && exit 0
  sleep 1
done
cannot "the node does not come up, see $dir/log"
