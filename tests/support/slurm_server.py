"""A real Slurm of one node on loopback, of Debian's packages slurmctld and slurmd, in a folder of its own."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from tfdist.cluster.ports import free_ports

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
_COMMAND_SECONDS = 30
# Jobs of the partition `low` are preempted by those of `high`, and have some seconds to save.
_CONFIG = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20 MaxTime=INFINITE
PartitionName=high Nodes={host} PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE
"""


def missing_programs():
    """Returns the programs of Slurm that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]


class SlurmServer:
    """The controller and its node, which run until the context ends.

    Args:
        folder: where its files go.
    """

    def __init__(self, folder):
        self._folder, self._processes = folder, []
        self.environ = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
        }

    def __enter__(self):
        host, (controller, daemon) = socket.gethostname(), free_ports(2)
        for name in ("state", "spool"):
            (self._folder / name).mkdir(parents=True)
        config = _CONFIG.format(host=host, folder=self._folder, controller=controller, daemon=daemon)
        (self._folder / "slurm.conf").write_text(config)
        (self._folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        with contextlib.ExitStack() as opened:
            opened.callback(self._end)
            self._start("slurmctld", "-D", "-c")
            self._start("slurmd", "-D", "-N", host)
            self._wait_for(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"), 30)
            opened.pop_all()
        return self

    def __exit__(self, *exception):
        self._end()

    def ask(self, *command, environ=None, text=None):
        """Runs a command of Slurm's; returns what it prints, also where it fails."""
        environ = self.environ | (environ or {})
        more = {"input": text, "capture_output": True, "text": True, "timeout": _COMMAND_SECONDS}
        ended = subprocess.run(command, env=environ, cwd=self._folder, check=False, **more)
        return ended.stdout + ended.stderr

    def submit(self, text, *flags, environ=None):
        """Submits a batch script; returns the number of its job."""
        answer = self.ask("sbatch", "--parsable", *flags, environ=environ, text=text)
        if not re.fullmatch(r"\d+\n", answer):
            raise RuntimeError(answer)
        return answer.strip()

    def job(self, number):
        """Returns what Slurm knows of a job: JobState, Restarts, ExitCode and more."""
        return dict(re.findall(r"(\w+)=(\S+)", self.ask("scontrol", "show", "job", number)))

    def wait_for_state(self, number, *states, deadline_seconds):
        """Waits until a job is in one of these states; returns what Slurm knows of it then, also after the deadline."""
        self._wait_for(lambda: self.job(number).get("JobState") in states, deadline_seconds)
        return self.job(number)

    def _wait_for(self, condition, deadline_seconds):
        deadline = time.monotonic() + deadline_seconds
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.5)

    def _start(self, *command):
        log = (self._folder / f"{command[0]}.out").open("w")
        self._processes.append(
            subprocess.Popen(command, env=self.environ, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        )

    def _end(self):
        # Jobs first, because the node's daemon leaves their processes behind.
        self.ask("scancel", "--signal=KILL", "--full", "--user=root")
        self.ask("scancel", "--user=root")
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
