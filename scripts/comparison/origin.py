"""What every peer leads to: nginx with files under /bench/, and `upstream.py` under /far/, both plain HTTP/1.1."""

import contextlib
import copy
import pathlib
import random
import sys

from . import lab

SIZES = {"1k": 1 << 10, "16k": 16 << 10, "64k": 64 << 10, "1m": 1_000_000, "100m": 100_000_000}


def nginx_frame(folder, workers, connections, http):
    """An nginx configuration that keeps everything of its own in `folder`."""
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""\
user root;
daemon off;
worker_processes {workers};
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections {connections}; }}
http {{
    {temporary}
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
{http}
}}
"""


def start_nginx(place, folder, name, of, config, port):
    """Starts it and gives the server with its workers' ids."""
    path = folder / f"{name}.conf"
    path.write_text(config)
    server = place.start(name, ["nginx", "-p", folder, "-c", path, "-e", folder / "error.log"], of, folder)
    server.wait_until("listens", lambda: lab.listens(port) and lab.children(server.pid))
    return server, lab.children(server.pid)


class Origin:
    """Both halves, started; `pids` are those whose CPU is told as the origin's."""

    def __init__(self, place):
        self.files, self.far = lab.free_port(), lab.free_port()
        folder = place.dir / "origin"
        bench = folder / "www" / "bench"
        bench.mkdir(parents=True)
        noise = random.Random(1).randbytes(1_000_000)
        for name, size in SIZES.items():
            with open(bench / name, "wb") as file:
                while size > 0:
                    size -= file.write(noise[:size])
        self.config = nginx_frame(folder, 1, 16384, f"""\
    access_log off;
    sendfile on;
    open_file_cache max=100;
    server {{
        listen {lab.HOST}:{self.files} backlog=8192;
        root {folder}/www;
        location = /bench/connection {{ return 200 "$connection $connection_requests\\n"; }}
    }}""")
        _, workers = start_nginx(place, folder, "origin", "load", self.config, self.files)
        self.place = place
        far = self.start_upstream()
        self.pids = {"origin": workers, "upstream": [far.pid]}
        self.bytes = {name: noise[:size] for name, size in SIZES.items() if size <= len(noise)}

    def start_upstream(self):
        program = pathlib.Path(__file__).with_name("upstream.py")
        server = self.place.start("upstream", [sys.executable, program, self.far], "load", self.place.dir / "origin")
        server.wait_until("listens", lambda: lab.listens(self.far))
        return server

    @contextlib.contextmanager
    def other_upstream(self):
        """The same origin with a second half that nobody has connections to yet, for as long as the context lasts."""
        other = copy.copy(self)
        other.far = lab.free_port()
        server = other.start_upstream()
        try:
            yield other
        finally:
            self.place.stop(server)
