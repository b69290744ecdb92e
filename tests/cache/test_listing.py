"""A listing shows what its pages and own changes tell, and each name keeps its place."""

from hypothesis import given
from hypothesis import strategies as st

from b2mount.cache.listing import Listing
from b2mount.store.packed import pack
from b2mount.store.store import Action, FileVersion, Page

KEYS = st.sampled_from(["a", "a!", "a-", "a.", "a/", "a0", "b", "b/", "c", "é", "\U0001f600", "\uffff"])


def row(key: str, file_id: str = "1") -> FileVersion:
    folder = key.endswith("/")
    return FileVersion(
        "d/" + key, "" if folder else file_id, 1, 1, Action.FOLDER if folder else Action.UPLOAD
    )


def pages_of(keys: list[str], size: int) -> list[Page]:
    rows = [row(key) for key in keys]
    parts = [rows[at : at + size] for at in range(0, len(rows), size)] or [[]]
    following = [part[0].name for part in parts[1:]]
    return [Page(pack(part), name) for part, name in zip(parts, [*following, None], strict=True)]


@given(st.sets(KEYS), st.integers(1, 4), st.lists(st.tuples(KEYS, st.booleans()), max_size=12), st.data())
def test_pages_and_own_changes_show_as_in_a_plain_dictionary(
    keys: set[str], size: int, changes: list[tuple[str, bool]], data: st.DataObject
) -> None:
    listing = Listing("d/", "d/", 0.0)
    shown: dict[str, FileVersion] = {}
    places: dict[str, int] = {}
    todo: list[Page | tuple[str, bool]] = list(pages_of(sorted(keys, key=str.encode), size))
    for change in changes:  # in any order with the pages, which keep theirs
        todo.insert(data.draw(st.integers(0, len(todo))), change)
    for number, step in enumerate(todo):
        if isinstance(step, Page):
            listing.take(step)
            shown |= {version.name[2:]: version for version in step.rows}
        elif step[1]:
            shown[step[0]] = row(step[0], f"own{number}")
            listing.put(step[0], shown[step[0]])
        else:
            shown.pop(step[0], None)
            listing.drop(step[0])
        assert dict(listing.rows) == shown
        for key in shown:
            place = listing.place_of(key)
            assert place is not None and listing.key_at(place) == key
            assert listing.version_at(place) == shown[key] and listing.is_live(place)
            if listing.was_told(key):
                assert places.setdefault(key, place) == place
    assert listing.complete
    live = [at for at in range(listing.places) if listing.is_live(at)]
    assert sorted(listing.key_at(at) for at in live) == sorted(shown)
    assert listing.first_live(0) == (live[0] if live else None)
    for key in shown:
        place = listing.place_of(key)
        if listing.was_told(key) and place is not None and not key.endswith("/"):
            assert listing.twin_of(place, key.encode()) is (key + "/" in shown)


@given(st.sets(KEYS), st.integers(1, 3))
def test_a_file_shows_under_its_own_name_only_when_it_is_known_to_have_no_twin(
    keys: set[str], size: int
) -> None:
    listing = Listing("d/", "d/", 0.0)
    for page in pages_of(sorted(keys, key=str.encode), size):
        listing.take(page)
        for place in range(listing.told):
            key = listing.key_at(place)
            if not key.endswith("/"):
                assert listing.twin_of(place, key.encode()) in (key + "/" in keys, None)


def test_a_directory_told_at_the_end_of_a_page_and_again_at_the_next_shows_once() -> None:
    listing = Listing("d/", "d/", 0.0)
    listing.take(Page([row("a"), row("b/")], "d/b/"))
    listing.take(Page([row("b/"), row("c")], None))
    assert list(listing.rows) == ["a", "b/", "c"]
