"""Memory: what the system says, and what control groups of either version leave of it."""

from pathlib import Path

import pytest

from seqlab.host import available_memory

KIB, MIB, GIB = 2**10, 2**20, 2**30
MOUNT = {
    2: "31 23 0:28 {inner} {place} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate",
    1: "35 31 0:32 {inner} {place} rw,relatime - cgroup cgroup rw,memory",
}
FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
UNLIMITED = {2: "max", 1: str(2**63 - 4096)}


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A machine with 8 GiB available."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // KIB} kB\n")
    return tmp_path


def join(system: Path, version: int, path: str, inner: str = "/", place: str = "/sys/cg") -> None:
    """Put this process into a group; `inner` of the hierarchy is mounted at `place`."""
    other = "9:name=systemd:/elsewhere\n8:cpu,cpuacct:/elsewhere\n"
    line = f"0::{path}\n" if version == 2 else f"4:hugetlb,memory:{path}\n"
    (system / "proc/self/cgroup").write_text(other + line)
    mount = MOUNT[version].format(inner=inner, place=place)
    unrelated = (
        "30 23 0:27 / /sys/cpu rw - cgroup cgroup rw,cpu\n24 1 8:1 / / rw - ext4 /dev/a rw\n"
    )
    (system / "proc/self/mountinfo").write_text(f"{unrelated}{mount}\n")


def limit(
    system: Path,
    version: int,
    folder: str,
    most: int | None,
    used: int,
    inactive: int | None = None,
) -> None:
    """What a group's files say."""
    group = system / folder
    group.mkdir(parents=True, exist_ok=True)
    names = FILES[version]
    (group / names[0]).write_text(f"{UNLIMITED[version] if most is None else most}\n")
    (group / names[1]).write_text(f"{used}\n")
    if inactive is not None:
        (group / "memory.stat").write_text(f"anon 17\nfile 99\n{names[2]} {inactive}\nslab 3\n")


def test_without_groups_the_system_is_believed(system: Path) -> None:
    assert available_memory(system) == 8 * GIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_lower_limit_of_the_own_group_counts(system: Path, version: int) -> None:
    """What is left under it, where file pages that nobody wants are free."""
    join(system, version, "/job/step")
    limit(system, version, "sys/cg/job/step", 3 * GIB, 2 * GIB, 256 * MIB)
    assert available_memory(system) == GIB + 256 * MIB
    limit(system, version, "sys/cg/job/step", 3 * GIB, 2 * GIB)  # without memory.stat's line
    (system / "sys/cg/job/step/memory.stat").unlink()
    assert available_memory(system) == GIB


@pytest.mark.parametrize("version", [1, 2])
def test_the_lowest_limit_on_the_way_up_counts(system: Path, version: int) -> None:
    join(system, version, "/a/b/c")
    limit(system, version, "sys/cg/a/b/c", None, GIB, 0)
    limit(system, version, "sys/cg/a/b", 6 * GIB, GIB, 0)
    limit(system, version, "sys/cg/a", 4 * GIB, 2 * GIB, 0)
    limit(system, version, "sys/cg", None, 7 * GIB, 0)
    limit(system, version, "sys", GIB, 0, 0)  # above the mount: no group
    assert available_memory(system) == 2 * GIB
    limit(system, version, "sys/cg/a", None, 2 * GIB, 0)
    assert available_memory(system) == 5 * GIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_above_what_the_system_has_changes_nothing(system: Path, version: int) -> None:
    join(system, version, "/job")
    limit(system, version, "sys/cg/job", 100 * GIB, GIB, 0)
    assert available_memory(system) == 8 * GIB
    limit(system, version, "sys/cg/job", None, GIB, 0)
    assert available_memory(system) == 8 * GIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_that_is_over_its_limit_leaves_nothing(system: Path, version: int) -> None:
    join(system, version, "/job")
    limit(system, version, "sys/cg/job", GIB, 2 * GIB, 0)
    assert available_memory(system) == 0


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_sees_a_part_of_the_hierarchy(system: Path, version: int) -> None:
    """Its path is told from the root of all, or from a root that it cannot see."""
    join(system, version, "/docker/abc/inner", inner="/docker/abc")
    limit(system, version, "sys/cg/inner", None, 0)
    limit(system, version, "sys/cg", 5 * GIB, GIB, 0)
    assert available_memory(system) == 4 * GIB
    join(system, version, "/", inner="/../..")
    assert available_memory(system) == 4 * GIB
    join(system, version, "/docker/other", inner="/docker/abc")
    assert available_memory(system) == 4 * GIB


def test_a_mount_with_blanks_in_its_name(system: Path) -> None:
    join(system, 2, "/job", place="/sys/c\\040g\\134040")
    limit(system, 2, "sys/c g\\040/job", GIB, 0, 0)
    assert available_memory(system) == GIB


@pytest.mark.parametrize("name", ["cgroup", "mountinfo"])
@pytest.mark.parametrize("text", ["", "nonsense\n", "\xff:\n", "a b c - d\n"])
def test_files_that_say_something_else_are_passed_over(system: Path, name: str, text: str) -> None:
    join(system, 2, "/job")
    limit(system, 2, "sys/cg/job", GIB, 0, 0)
    (system / "proc/self" / name).write_text(text, "latin-1")
    assert available_memory(system) == 8 * GIB


def test_a_limit_that_is_no_number_is_none(system: Path) -> None:
    join(system, 2, "/job")
    limit(system, 2, "sys/cg/job", GIB, 0, 0)
    (system / "sys/cg/job/memory.current").write_text("?")
    assert available_memory(system) == 8 * GIB


def test_a_system_without_meminfo_says_how_much_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    assert available_memory(tmp_path) == 4096 * 1000
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable:\n")
    assert available_memory(tmp_path) == 4096 * 1000
    monkeypatch.delattr("os.sysconf")
    assert available_memory(tmp_path) is None


def test_this_machine_has_memory() -> None:
    found = available_memory()
    assert found is None or found > 0
