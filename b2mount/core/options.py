"""What a person may choose about a mount, as facts; the command line fills it in."""

from dataclasses import dataclass
from pathlib import Path

from b2mount.core.listen import Listen

REPORT, KEEP_BOTH = CONFLICTS = ("report", "keep-both")

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The choices for one mount; the defaults are those of `b2mount mount --help`."""

    mountpoint: Path
    source: str | None = None  # "BUCKET[/PREFIX]"; None: the key decides
    bucket_id: str | None = None  # of SOURCE's bucket, for a key that may not ask B2 for it
    endpoint: str | None = None  # None: production; else the base URL that b2_authorize_account is asked at
    ca_file: Path | None = None  # extra certificate authority, for endpoints with one of their own
    state_dir: Path | None = None  # journal and spool; None: see core/places.py
    cache_dir: Path | None = None  # blocks; may be deleted at any time
    cache_size: int = 10 * GIB  # bytes of the block cache on disk
    spool_size: int | None = None  # bytes not yet in B2; None: by the free disk space, 0: no limit
    memory_size: int = 128 * MIB  # bytes of the block cache in memory
    listing_ttl: float = 60.0  # seconds for which a listing is believed
    io_timeout: float = 60.0  # seconds after which a call that must answer gives up
    settle: float = 1.0  # seconds between the last change of a file and its upload
    uploads: int = 64  # uploads, and changes of names, under way at once
    downloads: int = 40  # range requests under way at once
    read_only: bool = False
    allow_other: bool = False
    uid: int | None = None  # owner of what has none stored; None: who mounts
    gid: int | None = None
    umask: int | None = None  # taken from modes that have none stored; None: 0o022
    hard_delete: bool = False
    bypass_governance: bool = False  # delete, and weaken the retention of, what governance holds
    manage_buckets: bool = False  # mkdir and rmdir in a root that shows buckets make and delete them
    write_through: bool = False
    conflicts: str = REPORT  # what is done about lost updates: one of CONFLICTS
    versions: bool = False  # show every version under .b2versions/
    at: int | None = None  # show this moment, read-only; milliseconds since the epoch
    metrics: Listen | None = None  # where Prometheus may ask; None: nowhere
    max_class_b_per_day: int | None = None  # calls; None: any number
    max_class_c_per_day: int | None = None
    max_download_per_day: int | None = None  # bytes
    kernel_options: tuple[str, ...] = ()  # flags of mount(8) that are passed on to the kernel, e.g. "noexec"
