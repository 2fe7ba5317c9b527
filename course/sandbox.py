"""Where students' code runs: no network, nothing to write to but its own folder, no process that outlives it.

`bubblewrap`, or else `unshare` of util-linux, gives it namespaces of its own, for processes, mounts and the
network. It sees the system's programs, this Python with its libraries, and what it is given. Its folder is in
memory, of limited size, and gone when it ends; so is every process, as the first of them takes the others
along.
"""

import importlib.metadata
import resource
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from course import BookError

HOME = "/submission"  # the one folder that can be written, of this many bytes
HOME_BYTES = 1_000_000_000
NONE = "none"
SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/fonts", "/etc/alternatives")

REFUSED = """no sandbox works here ({why}), and students' code is not run without one: it could read your
files, change your marks and use your network. Install bubblewrap (apt install bubblewrap), or grade in a
virtual machine with Linux (WSL 2 on Windows). In a machine that holds nothing of value and has no network,
SANDBOX=none does without, and promises nothing."""

# For `unshare`: a new root in memory, the same places in it, all read-only; then no privilege is left.
SCRIPT = r"""
set -e
new=$1 home=$2 size=$3; shift 3
mount -t tmpfs -o size=$size,mode=755 submission "$new"
for name in "$home" /tmp /dev/shm; do
  mkdir -p "$new$name"; mount -t tmpfs -o size=$size,mode=777 own "$new$name"
done
while [ "$1" != -- ]; do
  from=$1 to=$new$2; shift 2
  if [ "$from" = nothing ]; then mount -t tmpfs -o size=4k,ro nothing "$to"; continue; fi
  if [ -d "$from" ]; then mkdir -p "$to"; else mkdir -p "${to%/*}"; : > "$to"; fi
  mount --bind "$from" "$to"; mount -o remount,bind,ro,nosuid "$to"
done
shift
for name in null zero full random urandom; do
  mkdir -p "$new/dev"; : > "$new/dev/$name"; mount --bind "/dev/$name" "$new/dev/$name"
done
mkdir -p "$new/proc" "$new/old"
mount -t proc proc "$new/proc"
cd "$new"; PATH=$PATH:/usr/sbin:/sbin pivot_root . old; umount -l /old; rmdir /old; mount -o remount,bind,ro /
cd "$home"
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
"""


def readable(extra: dict[Path, str]) -> list[tuple[str, str]]:
    """What can be read inside, by its place there. What holds the book is hidden from its libraries."""
    seen = {str(Path(name)): name for name in SYSTEM if Path(name).exists()}
    for prefix in {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1])}:
        if not Path(prefix).is_relative_to("/usr"):
            seen[str(Path(prefix).resolve())] = prefix
            seen[str(Path(prefix))] = prefix
    places = [(place, place) for place in seen]
    return places + [(str(path), place) for path, place in extra.items()]


def hidden() -> list[str]:
    """Folders of this environment's libraries that hold the book itself, where it is installed as a copy."""
    library = Path(sysconfig.get_paths()["purelib"]).resolve()
    try:
        files = importlib.metadata.files("dipfilters") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    tops = {file.parts[0] for file in files if len(file.parts) > 1 and not file.parts[0].endswith("-info")}
    return [str(library / top) for top in sorted(tops) if (library / top).is_dir()]


def environment() -> dict[str, str]:
    """What is told inside of this machine: nothing but where the programs are."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": HOME,
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "agg",
        "IPYTHONDIR": f"{HOME}/.ipython",
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "PIP_NO_INDEX": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def command(kind: str, extra: dict[Path, str], *words: str) -> list[str]:
    """The command line that runs these words in a sandbox of that kind."""
    if kind == "bubblewrap":
        found = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
        found += ["--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
        for place in (HOME, "/tmp", "/dev/shm"):
            found += ["--size", str(HOME_BYTES), "--tmpfs", place]
        for place, to in readable(extra):
            found += ["--ro-bind", place, to]
        for place in hidden():
            found += ["--tmpfs", place, "--remount-ro", place]
        return [*found, "--remount-ro", "/", "--chdir", HOME, "--", *words]
    if kind == "unshare":
        private = "--user --map-root-user --mount --pid --fork --kill-child --net --ipc --uts --cgroup"
        places = [one for pair in readable(extra) for one in pair]
        for place in hidden():
            places += ["nothing", place]
        told = ["/mnt", HOME, str(HOME_BYTES), *places, "--", *words]
        return [shutil.which("unshare") or "unshare", *private.split(), "sh", "-c", SCRIPT, "sh", *told]
    return list(words)


@cache
def kind() -> str:
    """The sandbox that works here; a refusal that says what to do if there is none."""
    why = []
    for name, program in (("bubblewrap", "bwrap"), ("unshare", "unshare")):
        if sys.platform != "linux" or not shutil.which(program):
            why.append(f"{name} is missing")
            continue
        asked = command(name, {}, sys.executable, "-c", "")
        done = subprocess.run(asked, capture_output=True, text=True, env=environment(), check=False)
        if done.returncode == 0:
            return name
        why.append(f"{name}: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    raise BookError(REFUSED.format(why="; ".join(why)))


def limit(memory_gb: float) -> None:
    """Bound what this process, and each that it starts, may take."""
    for what, most in (
        (resource.RLIMIT_DATA, int(memory_gb * 1e9)),
        (resource.RLIMIT_FSIZE, HOME_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard),) * 2)


def start(
    kind: str, extra: dict[Path, str], words: Sequence[str], memory_gb: float, folder: Path | None
) -> subprocess.Popen[bytes]:
    """Start the words in a sandbox, with pipes to them; without a sandbox, in that folder."""
    return subprocess.Popen(
        command(kind, extra, *words),
        env=environment() | ({"HOME": str(folder)} if folder else {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: limit(memory_gb),
        cwd=folder or "/",
    )
