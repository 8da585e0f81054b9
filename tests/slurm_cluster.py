"""A real SLURM cluster of two nodes on this machine: munge, slurmctld and two slurmd, with all files in one folder.

They and all jobs run in a PID namespace of their own, which the system ends together with this process. Each node has
one in it, and its own host name.
"""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from s3_server import die_with_parent, free_ports

# Root needs no other namespace to mount and to name; who is not root has these rights in one of users.
USER = () if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "unshare")
NODES = ("n1", "n2")
# config_overrides: the nodes have what is written here, whatever the machine has. cred_expire: seconds after which a
# requeued job may start again, 120 by default. KillWait: those from SIGTERM to SIGKILL.
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
SlurmdParameters=config_overrides
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
KillWait=5
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=32 Gres=gpu:4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=32 Gres=gpu:4
PartitionName=all Nodes=n1,n2 Default=YES State=UP
"""
# The nodes know each other by name, and see only their own processes, as two machines do.
HOSTS = "127.0.0.1 localhost {host} n1 n2\n"
DAEMONS = f"""\
mount --bind hosts /etc/hosts
munged --foreground --force --key-file=munge.key --socket=munge.socket --pid-file=munge.pid --log-file=munge.log \
  --seed-file=munge.seed &
slurmctld -D &
for node in {" ".join(NODES)}; do {" ".join(NAMESPACE)} --uts sh -c "hostname $node; slurmd -D -N $node & wait" & done
wait
"""


class NoCluster(Exception):
    """The reason why no cluster can run on this machine."""


class SlurmCluster:
    """The cluster, with its files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        missing = [program for program in PROGRAMS if shutil.which(program, path=self.environment["PATH"]) is None]
        if missing:
            raise NoCluster(f"not found: {', '.join(missing)}; on Debian: apt-get install slurm-wlm munge")
        ports = dict(zip(("controller", *NODES), free_ports(3), strict=True))
        host = socket.gethostname().partition(".")[0]
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=host, user=getpass.getuser(), **ports))
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
        for gpu in range(4):
            (folder / f"gpu{gpu}").touch()
        (folder / "hosts").write_text(HOSTS.format(host=socket.gethostname()))
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o400)
        self._namespace: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. Raises `NoCluster` if the nodes do not come up."""
        with (self.folder / "daemons.log").open("wb") as log:
            self._namespace = subprocess.Popen(
                [*NAMESPACE, *USER, "sh", "-c", DAEMONS],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        namespace = self._namespace
        try:
            self.wait_for(lambda: namespace.poll() is not None or self._nodes() == "idle 2", 30)
            started = namespace.poll() is None
        except TimeoutError:
            started = False
        if not started:
            self.end()
            said = [path.read_text(errors="replace").strip()[-300:] for path in sorted(self.folder.glob("*.log"))]
            raise NoCluster(f"the nodes do not come up: {' | '.join(said)}")

    def _nodes(self) -> str:
        return self.run("sinfo", "--noheader", "--format=%T %D")

    def end(self) -> None:
        """End the daemons and all jobs at once."""
        if self._namespace is not None:
            self._namespace.kill()
            self._namespace.wait()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user of the cluster."""
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """Run a command of SLURM's, however it ends. Return what it says."""
        finished = subprocess.run(
            command,
            cwd=cwd,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return finished.stdout.strip()

    def submit(self, *arguments: str, cwd: Path, **environment: str) -> str:
        """Submit a batch script. Return the job's number."""
        said = self.run("sbatch", *arguments, cwd=cwd, **environment)
        assert said.startswith("Submitted batch job "), said
        return said.split()[-1]

    def state(self, job: str) -> str:
        """Return the state of a job in SLURM's words, such as `RUNNING`."""
        said = self.run("scontrol", "--oneliner", "show", "job", job)
        return said.partition("JobState=")[2].partition(" ")[0]

    @staticmethod
    def wait_for(done: Callable[[], bool], seconds: float) -> None:
        """Wait until `done`. Raises `TimeoutError` after so many seconds."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.1)
