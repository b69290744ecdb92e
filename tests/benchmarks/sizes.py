"""How large the work is: full size, somewhat smaller from afar, and tiny for a trial."""

from dataclasses import dataclass, fields, replace

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes, where a comment says nothing else."""

    sequential: int = 1024 * MIB
    checked: int = 512 * MIB
    huge: int = 10_000_000_000
    random_reads: int = 60  # of 4 KiB, one after the other
    deep_reads: int = 160  # of 64 KiB, 16 at a time
    small_files: int = 500  # of 16 KiB
    shared: int = 256 * MIB  # what two read at once
    skipped: int = 512 * MIB
    mapped: int = 256 * MIB
    searched: int = 400  # files of 16 KiB, in 20 directories
    names: int = 10_000  # in one directory
    million: int = 1_000_000  # names in one directory
    directories: int = 1_000  # of 5 files each
    many_directories: int = 10_000
    summed: int = 100  # directories of 10 files each, for du
    missing: int = 300  # lookups
    stats: int = 20_000  # of 1,000 known files
    written: int = 400_000_000
    small_writes: int = 600  # files of 4 KiB
    fsyncs: int = 30  # files of 4 KiB
    changed: int = 512 * MIB  # what is appended to, patched and renamed
    renamed: int = 200  # files of a directory that is renamed or removed
    synced: int = 200  # files for rsync, in 10 directories

    def words(self) -> dict[str, str]:
        """Return all sizes as a reader would write them; counts have separators, sizes units."""
        counted = {"sequential", "checked", "huge", "shared", "skipped", "mapped", "written", "changed"}
        values = {field.name: int(getattr(self, field.name)) for field in fields(self)}
        return {name: show_size(size) if name in counted else f"{size:,}" for name, size in values.items()}


def show_size(size: int) -> str:
    """Write a size as a reader would."""
    if size % (1 << 30) == 0:
        return f"{size >> 30} GiB"
    if size % MIB == 0:
        return f"{size >> 20} MiB"
    return f"{size // 10**9} GB" if size % 10**9 == 0 else f"{size // 10**6} MB"


NEAR = Sizes()
FAR = replace(NEAR, sequential=512 * MIB)  # what rclone was measured with when the goals were set
QUICK = Sizes(
    sequential=24 * MIB,
    checked=16 * MIB,
    random_reads=8,
    deep_reads=32,
    small_files=20,
    shared=16 * MIB,
    skipped=32 * MIB,
    mapped=8 * MIB,
    searched=40,
    names=300,
    million=3_000,
    directories=20,
    many_directories=30,
    summed=10,
    missing=20,
    stats=2_000,
    written=20_000_000,
    small_writes=20,
    fsyncs=4,
    changed=24 * MIB,
    renamed=10,
    synced=20,
)
