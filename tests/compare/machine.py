"""What the comparison needs of the machine: programs, processes pinned to a core, what they have used, free ports."""

import http.client
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TICK = os.sysconf("SC_CLK_TCK")
READY_SECONDS = 10
STOP_SECONDS = 5


class Failed(Exception):
    """Something the user can act on; its text is all they need."""


def say(text):
    print(f"tests/compare/run: {text}", file=sys.stderr, flush=True)


def install(packages):
    """Installs the Debian packages of the programs that are missing; `packages` maps programs to them."""
    # Daemons are in sbin, which an ordinary user's path lacks.
    os.environ["PATH"] += ":/usr/sbin"
    missing = [package for program, package in packages.items() if not shutil.which(program)]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failed(f"missing: {' '.join(missing)}; as root on Debian: {' '.join(command)}")
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for each in (["apt-get", "update"], command):
        subprocess.run(each, check=True, stdout=sys.stderr, env=environment)


def cores():
    """The core of the proxies, and the one of the load and the service."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Failed("one core is not enough: the load would run on that of the proxy")
    return allowed[1], allowed[0]


def free_ports(number):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Process:
    """A server with all its children, on one core, until the end of the `with`."""

    def __init__(self, name, command, core, log):
        self.name, self.log = name, log
        with open(log, "wb") as output:
            pinned = ["taskset", "--cpu-list", str(core), *map(str, command)]
            self.child = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.terminate()
        try:
            self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in reversed(self.tree()):
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            self.child.wait()

    def ready(self, port):
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self.child.poll() is None:
            try:
                return get(port, "/")
            except OSError:
                time.sleep(0.02)
        raise Failed(f"{self.name} does not answer:\n{pathlib.Path(self.log).read_text()}")

    def tree(self):
        """The ids of the process and everything below it, parents first."""
        parents = {}
        for folder in pathlib.Path("/proc").iterdir():
            if folder.name.isdigit() and (stat := stat_of(folder)):
                parents[int(folder.name)] = int(stat[1])
        tree = [self.child.pid]
        for pid in tree:
            tree += [child for child, parent in parents.items() if parent == pid]
        return tree

    def cpu_seconds(self):
        """User and system time so far, of the whole tree."""
        stats = [stat for pid in self.tree() if (stat := stat_of(pathlib.Path(f"/proc/{pid}")))]
        return tuple(sum(int(stat[field]) for stat in stats) / TICK for field in (11, 12))

    def rss(self):
        """Bytes of memory in use, of the whole tree; pages that it shares count as often as they are shared."""
        total = 0
        for pid in self.tree():
            for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total


def core_seconds(core):
    """The time that this core was not idle so far, whoever had it."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        name, *times = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _waiting, *others = map(int, times[:8])
            return (user + nice + system + sum(others)) / TICK
    raise Failed(f"core {core} is not in /proc/stat")


def stat_of(folder):
    """The fields of /proc/PID/stat from the third, the state, on; none if the process is gone."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def get(port, path):
    """The body of an answer that must be a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=READY_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
    except http.client.HTTPException as error:
        raise Failed(f"port {port} speaks no HTTP: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise Failed(f"{path} is answered with {answer.status}: {body}")
    return body


def output(*command):
    """What a command says, on either stream, whatever its exit code."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip()


def facts(proxy_core, load_core):
    """The machine and the versions, for whoever reads the numbers later."""
    def first(text):
        return text.splitlines()[0] if text else "unknown"

    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "unknown")
    commit = output("git", "describe", "--always", "--dirty", "--abbrev=12")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "proxy_core": proxy_core,
        "load_core": load_core,
        "kernel": platform.release(),
        "load_average": os.getloadavg()[0],
        "versions": {
            "stile": first(commit),
            "rustc": first(output("rustc", "--version")).removeprefix("rustc "),
            "nginx": first(output("nginx", "-v")).rpartition("/")[2],
            "haproxy": first(output("haproxy", "-v")).split()[2],
            "wrk": first(output("wrk", "-v")).split()[1],
        },
    }
