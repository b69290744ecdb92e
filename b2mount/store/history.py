"""Every version of every name, listed as if each file name were a directory of its versions (core/views.py).

All versions of one name come in one page, oldest first, since B2 lists them newest first and a name's entries
must stand in order: some kilobytes of memory for each version of the names that are looked at.
"""

from collections.abc import Sequence
from dataclasses import replace

from b2mount.core.names import is_placeholder
from b2mount.core.views import END_OF_NAME, name_of_version, name_versions
from b2mount.store.past import GROWTH, LEAST_ROWS, MOST_ROWS, can_skip
from b2mount.store.store import Action, FileVersion, Page, Store


class History:
    """The versions of all names in all buckets."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_names(
        self,
        bucket_id: str,
        prefix: str,
        *,
        start: str | None = None,
        delimiter: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List names of the look at all versions; one name's versions are never cut in two.

        *limit* says how many of B2's rows to ask for at first; the page may have more, and is without rows
        only where nothing follows.
        """
        if END_OF_NAME in prefix:
            return await self._list_one(bucket_id, prefix, start or "", delimiter)
        at: str | None = start if start is None else name_of_version(start)[0]
        at_id: str | None = None
        count = min(max(limit, LEAST_ROWS), MOST_ROWS)
        found: list[FileVersion] = []
        group: list[FileVersion] = []  # the rows so far of the last name
        while True:
            page = await self._store.list_versions(
                bucket_id, prefix, start=at, start_id=at_id, delimiter=delimiter, limit=count
            )
            for row in page.rows:
                if group and row.name != group[0].name:
                    found += _shown(group, delimiter)
                    group = []
                if row.action is Action.FOLDER:
                    found.append(row)
                else:
                    group.append(row)
            at, at_id = page.next_name, page.next_id
            if group and group[0].name == at:
                if delimiter is not None and _shown(group, delimiter) and can_skip(at):
                    at, at_id = at + " ", None  # that it has versions is known; which, is not asked
                elif delimiter is None and found:
                    return _page(found, group[0].name + END_OF_NAME, start)
                else:
                    count = min(count * GROWTH, MOST_ROWS)
                    continue
            found += _shown(group, delimiter)
            group = []
            if found or at is None:
                return _page(found, at, start)
            count = min(count * GROWTH, MOST_ROWS)

    async def _list_one(self, bucket_id: str, prefix: str, start: str, delimiter: str | None) -> Page:
        """List the versions of one name."""
        name, _ = name_of_version(prefix)
        asks_if_any = delimiter is not None and not prefix.endswith("/") and prefix.endswith(END_OF_NAME)
        group: list[FileVersion] = []
        at: str | None = name
        at_id: str | None = None
        count = 1000
        while at == name:
            page = await self._store.list_versions(bucket_id, name, start=at, start_id=at_id, limit=count)
            group += [row for row in page.rows if row.name == name]
            if asks_if_any and _shown(group, delimiter):
                break
            at, at_id, count = page.next_name, page.next_id, MOST_ROWS
        rows = _shown(group, delimiter if asks_if_any else None)
        return Page([row for row in rows if row.name.startswith(prefix) and row.name >= start], None)


def _page(found: list[FileVersion], next_name: str | None, start: str | None) -> Page:
    return Page([row for row in found if start is None or row.name >= start], next_name)


def _shown(group: Sequence[FileVersion], delimiter: str | None) -> list[FileVersion]:
    """Return what shows of one name's versions, the newest first: its directory, or with no delimiter each.

    What only marks a directory shows as that: as the newest of its kind, under its own name.
    """
    if not group:
        return []
    name = group[0].name
    last = name[name.rfind("/") + 1 :]
    can_mark = is_placeholder(last, 0)
    marks: list[FileVersion] = []
    versions: list[FileVersion] = []
    for row in group:
        if row.action is Action.UPLOAD:
            (marks if can_mark and row.size == 0 else versions).append(row)
        elif row.action is Action.HIDE:
            versions.append(row)
    if can_mark and all(row.action is Action.HIDE for row in versions):
        versions = []
    shown = marks[:1]
    if versions and delimiter is not None:
        shown.append(FileVersion(name + END_OF_NAME + "/", "", 0, versions[0].uploaded_ms, Action.FOLDER))
    elif versions:
        versions.reverse()
        entries = name_versions((row.uploaded_ms, row.action is Action.HIDE) for row in versions)
        shown += [
            replace(row, name=f"{name}{END_OF_NAME}/{entry}", action=Action.UPLOAD)
            for row, entry in zip(versions, entries, strict=True)
        ]
    return shown
