"""Other looks at a bucket than its present: as it was at a moment, or every version that it holds.

Each look at a bucket has an ID of its own, made of the bucket's, so that listings and directories of several
looks live side by side. In the look at all versions a file name stands for a directory: version E of `a/b`
has the name `a/b`, U+0000, `/`, E. No name of B2 holds U+0000, which sorts before all; so these names stand
in the same order as B2's own, and the versions of `a` never mix with what lies under `a/`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from b2mount.core.moments import format_moment

VERSIONS_ROOT = ".b2versions"  # the directory in the root of a mount with --versions
HIDDEN = ".hidden"  # how the entry of a hide marker ends
END_OF_NAME = "\0"  # between a file's name and its versions


@dataclass(frozen=True, slots=True)
class View:
    """A look at buckets: at a moment, in milliseconds since the epoch; None: at every version."""

    at_ms: int | None

    def bucket_id(self, bucket_id: str) -> str:
        """Return the ID of this look at a bucket."""
        return f"{'versions' if self.at_ms is None else self.at_ms} of {bucket_id}"


def parse_bucket_id(text: str) -> tuple[View | None, str]:
    """Return the look that an ID means and the bucket's own ID; None for the present."""
    look, is_view, bucket_id = text.partition(" of ")
    if not is_view:
        return None, text
    return View(None if look == "versions" else int(look)), bucket_id


def name_versions(versions: Iterable[tuple[int, bool]]) -> Iterator[str]:
    """Yield the entry of each version of one name, given oldest first: its moment, and whether it hides.

    The moment of upload in UTC; for each further version of the same millisecond `_001` and so on after it.
    Entries sort by time, and stay as they are when versions are added.
    """
    last_ms, number = -1, 0
    for uploaded_ms, hides in versions:
        number = number + 1 if uploaded_ms == last_ms else 0
        last_ms = uploaded_ms
        yield format_moment(uploaded_ms) + (f"_{number:03}" if number else "") + (HIDDEN if hides else "")


def name_of_version(name: str) -> tuple[str, str]:
    """Split a name in the look at all versions into the file's name and the entry ("" for the directory)."""
    file_name, _, rest = name.partition(END_OF_NAME)
    return file_name, rest.removeprefix("/")
