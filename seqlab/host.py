"""What this machine has to give: memory, as far as the process's control groups let it have any."""

import os
from collections.abc import Iterator
from pathlib import Path

GIB = 2**30
_ROOT = Path("/")


def available_memory(root: Path = _ROOT) -> int | None:
    """Bytes of memory that can be had without swapping; None where the system does not say.

    The least of what the system has, and of what each control group around this process leaves to
    it. `root` is where the system's files are.
    """
    system = _of_the_system(root)
    rooms = [*([] if system is None else [system]), *_of_its_groups(root)]
    return min(rooms, default=None)


def _of_the_system(root: Path) -> int | None:
    try:
        lines = (root / "proc/meminfo").read_text("ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


# The files of a group, in each version of control groups: limit, use, and the line of memory.stat
# that counts file pages which are given up when something else wants their place.
_VERSIONS = {
    "cgroup2": ("memory.max", "memory.current", "inactive_file"),
    "cgroup": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def _of_its_groups(root: Path) -> Iterator[int]:
    """What each group leaves, from the process's own up to the outermost that can be seen."""
    try:
        groups = list(_groups(root))
    except (OSError, ValueError):  # another system, or a hardened one
        return
    for kind, top, group in groups:
        for folder in (group, *group.parents):
            if (room := _room(folder, *_VERSIONS[kind])) is not None:
                yield room
            if folder == top:
                break


def _groups(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """The hierarchies that count memory: the version, the folder of the outermost group that can
    be seen, and the folder of the process's own."""
    paths = {}
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            paths["cgroup2"] = path
        elif "memory" in controllers.split(","):
            paths["cgroup"] = path
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, inner, place, *_ = map(_unescaped, before.split())
        kind, _, options = after.split(" ", 2)
        if kind not in paths or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        top = root / place.lstrip("/")
        # A container may see a part of the hierarchy alone, while its path is told from the root.
        below = os.path.relpath(paths[kind], inner)
        yield kind, top, top if below.startswith("..") else top / below


def _unescaped(text: str) -> str:
    """A path of mountinfo, which writes blanks and backslashes in octal."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text


def _room(group: Path, limit: str, use: str, inactive: str) -> int | None:
    """Bytes that a group leaves; None without a limit."""
    try:
        most = int((group / limit).read_text())  # in version 2 "max" where there is none
        used = int((group / use).read_text())
    except (OSError, ValueError):
        return None
    return max(0, most - used + _counted(group / "memory.stat", inactive))


def _counted(path: Path, name: str) -> int:
    try:
        return int(dict(line.split() for line in path.read_text().splitlines())[name])
    except (OSError, KeyError, ValueError):
        return 0
