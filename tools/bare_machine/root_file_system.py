"""A bare machine: a minimal Debian in a folder, entered by chroot in separate namespaces."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

PACKAGES = ("ca-certificates", "make", "python3")
"""Packages that the machine needs. They do not include a compiler, git or a server."""

USER = "someone"

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"

_ENTER = """
set -eu
root=$1 project=$2 network=$3 mounts=$4; shift 4
mount --make-rprivate /
mount --bind "$root" "$root" # so that / is a mount point inside, as on a real machine
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs tmpfs "$root/run"
printf '%s\n' "$mounts" | while IFS='|' read -r mode source target; do
  [ -n "$mode" ] || continue
  mkdir -p "$root$target"
  mount --bind "$source" "$root$target"
  [ "$mode" = rw ] || mount -o remount,bind,ro "$root$target"
done
[ "$network" = online ] || ip link set lo up
exec chroot "$root" sh -c 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"' sh "$project" "$@"
"""


@dataclass(frozen=True)
class Mount:
    """A folder of this machine that is visible on the bare machine."""

    source: Path
    target: str
    writable: bool = False


def bootstrap(suite: str, folder: Path) -> None:
    """Install a minimal Debian, from this machine's package sources if this machine runs Debian."""
    for program in ("mmdebstrap", "unshare", "ip"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing: apt-get install mmdebstrap util-linux iproute2")
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    text = sources.read_text() if sources.exists() else ""
    for line in text.splitlines():
        if line.startswith("Suites:"):
            text = text.replace(f" {line.split()[1].partition('-')[0]}", f" {suite}")
    options = ["--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    subprocess.run(
        ["mmdebstrap", *options, suite, str(folder), *(["-"] if text else [])],
        input=text, text=True, check=True,
    )  # fmt: skip


class BareMachine:
    """A root file system with a copy of the project.

    Parameters
    ----------
    root
        Folder of the file system.
    project
        Absolute path of the project inside it.
    """

    def __init__(self, root: Path, project: str) -> None:
        self.root = root
        self.project = project

    def prepare(self, checkout: Path, *, owner: str) -> None:
        """Copy the project and this machine's network settings to the root, and add the user."""
        for name in ("etc/resolv.conf", "etc/hosts", _CERTIFICATES):
            shutil.copy(f"/{name}", self.root / name)
        (self.root / "etc/pip.conf").write_text(_pip_settings())
        self.run("useradd", "--create-home", USER)
        inside = self.root / self.project.lstrip("/")
        inside.mkdir(parents=True)
        for name in _files(checkout):
            (inside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, inside / name)
        self.run("sh", "-c", f'chown -R {owner}: "$PWD"')

    def run(
        self,
        *command: str,
        user: str = "root",
        variables: Mapping[str, str] | None = None,
        offline: bool = False,
        mounts: Sequence[Mount] = (),
        log: BinaryIO | None = None,
    ) -> int:
        """Run a command in the project's folder and return its exit status.

        Parameters
        ----------
        user
            Name of the user on the bare machine.
        variables
            Environment variables of the command, besides ``HOME``, ``PATH`` and ``USER``.
        offline
            Whether the command has no network except for loopback.
        mounts
            Folders of this machine that the command can see.
        log
            Receives the output of the command.
        """
        environment = {"HOME": self.home(user), "PATH": _PATH, "USER": user, "LANG": "C.UTF-8"}
        environment |= variables or {}
        inside = ["env", "--ignore-environment"]
        inside += [f"{name}={value}" for name, value in environment.items()]
        if user != "root":
            inside += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts"]
        lines = "\n".join(
            f"{'rw' if mount.writable else 'ro'}|{mount.source}|{mount.target}" for mount in mounts
        )
        return subprocess.run(
            ["unshare", *namespaces, *(["--net"] if offline else []), "sh", "-c", _ENTER, "sh",
             str(self.root), self.project, "offline" if offline else "online", lines,
             *inside, *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT if log else None,
            check=False,
        ).returncode  # fmt: skip

    def add(self, package: str) -> None:
        """Install a Debian package, as the administrator of the machine would."""
        for arguments in (["update", "-qq"], ["install", "-qq", "-y", package]):
            if status := self.run("apt-get", *arguments):
                sys.exit(f"apt-get {arguments[0]} failed with status {status} in {self.root}")

    @staticmethod
    def home(user: str) -> str:
        """Return the home folder of a user on the bare machine."""
        return "/root" if user == "root" else f"/home/{user}"


def _files(checkout: Path) -> list[str]:
    """Return the files of a fresh clone, and files that are not yet committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=checkout, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [name for name in listed.split("\0") if name and (checkout / name).exists()]


def _pip_settings() -> str:
    """Return this machine's pip settings, such as a private registry."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip("'").replace("\\n", " ")
    settings.pop("constraint", None)  # skip this machine's file; the project has its own
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
