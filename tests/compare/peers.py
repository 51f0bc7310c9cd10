"""What is compared: the peers, the workloads, and how each is built, set up and shown to do its part."""

import dataclasses
import json
import pathlib
import subprocess
import sys

from machine import ROOT, Failed, get, say

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Peer:
    """A proxy under one workload."""

    name: str
    workload: str
    # With @…@ for what is known only when it runs.
    command: tuple
    # A file of peers/, written to @CONFIG@.
    config: str = ""
    # What the service must see of a request: X-Forwarded-For and X-Compare.
    seen: str = "127.0.0.1|"

    @property
    def title(self):
        return self.name if self.workload == "plain" else f"{self.name} {self.workload}"


NGINX = ("nginx", "-c", "@CONFIG@", "-p", "@FOLDER@", "-e", "stderr")
HAPROXY = ("haproxy", "-db", "-f", "@CONFIG@")
STILE = ("@STILE@", "run", "--config", "@CONFIG@")

# In the order in which they take their turns.
PEERS = (
    Peer("nginx", "plain", NGINX, "nginx.conf"),
    Peer("haproxy", "plain", HAPROXY, "haproxy.cfg"),
    # It forwards what it gets and adds nothing.
    Peer("floor", "plain", ("@FLOOR@", "@PORT@", "@SERVICE@"), seen="|"),
    Peer("stile", "plain", STILE, "stile.yaml"),
    Peer("stile", "header-filter", STILE, "stile-header-filter.yaml", seen="127.0.0.1|set"),
)
SERVICE = Peer("service", "", NGINX, "upstream.conf")


def build():
    """Builds what is ours; gives the paths by the names that commands and configurations use."""
    stile = cargo("--package", "stile-gateway", "--bin", "stile")
    floor = cargo("--manifest-path", HERE / "floor/Cargo.toml", "--target-dir", ROOT / "target/compare")
    say("building the plugin")
    command = [stile, "plugin", "build", ROOT / "plugins/add-headers", "--json"]
    plugin = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {"STILE": stile, "FLOOR": floor, "PLUGIN": json.loads(plugin.splitlines()[0])["file"]}


def cargo(*arguments):
    """Builds what would be shipped and gives the path of the program."""
    say(f"building {pathlib.Path(str(arguments[1])).parent.name or arguments[1]}")
    command = ["cargo", "build", "--profile=dist", "--locked", "--message-format=json-render-diagnostics", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    made = [json.loads(line) for line in done.stdout.splitlines()]
    programs = [each["executable"] for each in made if each.get("executable")]
    if done.returncode != 0 or not programs:
        raise Failed("cargo could not build it")
    return programs[-1]


def set_up(peer, folder, values):
    """Writes the peer's configuration; gives its command."""
    values = {**values, "FOLDER": str(folder), "CONFIG": str(folder / peer.config)}

    def filled(text):
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        return text

    if peer.config:
        (folder / peer.config).write_text(filled((HERE / "peers" / peer.config).read_text()))
    return [filled(part) for part in peer.command]


def check(peer, port):
    """A peer that does less than it should would look good: has the service tell what it was sent."""
    seen = get(port, "/seen")
    wanted = f"{peer.seen}||HTTP/1.1"
    if seen != wanted:
        raise Failed(f"{peer.title} sends the service {seen!r} where it should send {wanted!r}")
