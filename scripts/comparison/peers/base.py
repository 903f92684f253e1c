"""What a peer is to the rest: a port that takes HTTPS, processes with names, configurations, a version."""

import subprocess

from .. import lab


def version_of(command):
    """The first line of a program's version, or why there is none."""
    try:
        done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise lab.Failed(f"{command[0]}: {error}") from None
    lines = (done.stdout + done.stderr).strip().splitlines()
    if not lines:
        raise lab.Failed(f"{' '.join(map(str, command))} says no version")
    return lines[0].strip()


class Peer:
    """One peer in a folder of its own; several of one class may live at once.

    `processes` names each process, the one that clients see first, with the ids whose CPU counts as its. Those of `inside`
    stand behind the firewall. `links` is the port that the inside dials, if any.
    """

    name = title = what = None
    tunnel = False
    inside = ()

    def __init__(self, place, origin, options):
        self.place, self.origin, self.options = place, origin, options
        self.port = lab.free_port()
        self.links = None
        self.processes, self.configs, self.commands, self.servers = {}, {}, [], []
        number = sum(1 for path in place.dir.iterdir() if path.name.startswith(f"{self.name}."))
        self.dir = place.dir / f"{self.name}.{number}"
        self.dir.mkdir()

    def write(self, file, text):
        """A configuration file; the result shows it as it is."""
        path = self.dir / file
        path.write_text(text)
        self.configs[file] = text
        return path

    def run(self, name, command, port=None, environment=None):
        """Starts one of its processes and waits until it listens."""
        self.commands.append(" ".join(str(part) for part in command))
        server = self.place.start(name, command, "peer", self.dir, environment)
        self.servers.append(server)
        if port:
            server.wait_until("listens", lambda: lab.listens(port))
        return server

    def logs(self):
        """Whether the process that clients see logs each request; those inside never do, so that each request has one line."""
        return self.options.logs == "on"

    def start(self):
        raise NotImplementedError

    def stop(self):
        for server in reversed(self.servers):
            self.place.stop(server)
        self.servers = []

    @classmethod
    def version(cls, options):
        raise NotImplementedError

    def log_tail(self):
        """The last lines of each of its logs."""
        texts = [f"── {server.name}\n{text}" for server in self.servers if (text := lab.tail(server.log))]
        return "\n".join(texts)
