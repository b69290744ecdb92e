"""What is spent of a day's budget, by a clock that is given: limits, warnings, midnight, remounts, caps."""

import logging
from pathlib import Path

import pytest

from b2mount.core.budget import Limits
from b2mount.store.budget import FILE, Budget
from b2mount.store.counting import Counters, dollars_of_day

NOON = 20_000 * 86_400 + 43_200.0
LIST, READ, UPLOAD = "b2_list_file_names", "b2_download_file_by_id", "b2_upload_file"


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counters(clock: Clock) -> Counters:
    return Counters(clock)


def spend(counters: Counters, call: str, times: int, *, down: int = 0) -> None:
    for _ in range(times):
        counters.answered(call, 200, 0.01, down=down)


def test_without_limits_nothing_changes_however_much_is_spent(counters: Counters) -> None:
    budget = Budget(Limits(), counters)
    spend(counters, LIST, 5000)
    spend(counters, READ, 5000, down=1 << 30)
    assert (budget.ttl_factor, budget.lists_ahead, budget.reads_ahead, budget.scans_ahead) == (
        1,
        True,
        True,
        True,
    )
    assert budget.facts()["budget"] == {}


def test_spent_class_c_calls_lengthen_listings_and_end_listing_ahead(counters: Counters) -> None:
    budget = Budget(Limits(class_c=10), counters)
    spend(counters, LIST, 9)
    assert (budget.ttl_factor, budget.lists_ahead) == (1, True)
    spend(counters, LIST, 1)
    assert (budget.ttl_factor, budget.lists_ahead) == (10, False)
    assert (budget.reads_ahead, budget.scans_ahead) == (True, True)


def test_spent_class_b_calls_end_fetching_files_ahead_but_not_reading_ahead(counters: Counters) -> None:
    budget = Budget(Limits(class_b=3), counters)
    spend(counters, READ, 3)
    assert (budget.reads_ahead, budget.scans_ahead, budget.lists_ahead) == (True, False, True)


def test_spent_download_ends_all_fetching_ahead(counters: Counters) -> None:
    budget = Budget(Limits(download_bytes=1000), counters)
    spend(counters, READ, 1, down=999)
    assert (budget.reads_ahead, budget.scans_ahead) == (True, True)
    spend(counters, READ, 1, down=1)
    assert (budget.reads_ahead, budget.scans_ahead) == (False, False)


def test_a_budget_begins_anew_at_midnight_utc(counters: Counters, clock: Clock) -> None:
    budget = Budget(Limits(class_c=2), counters)
    spend(counters, LIST, 2)
    assert budget.ttl_factor == 10
    clock.now = 20_001 * 86_400 - 0.001
    assert budget.ttl_factor == 10
    clock.now = 20_001 * 86_400.0
    assert budget.ttl_factor == 1
    assert budget.facts()["C"] == 0
    spend(counters, LIST, 1)
    assert (budget.facts()["C"], counters.totals().classes["C"]) == (1, 3)


def test_the_log_warns_once_a_day_at_each_stage(
    counters: Counters, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    budget = Budget(Limits(class_c=10), counters)
    caplog.set_level(logging.INFO, "b2mount.budget")
    for _ in range(12):
        spend(counters, LIST, 1)
        budget.tell()
    assert [record.message for record in caplog.records] == [
        "8 of 10 class C calls a day are spent",
        "the 10 class C calls a day are spent: until 00:00 UTC listings are believed 10 times as long, "
        "and none is fetched ahead; what is asked for still works",
    ]
    caplog.clear()
    clock.now += 86_400
    budget.tell()
    spend(counters, LIST, 10)
    budget.tell()
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "a new day (UTC)",
        "the 10 class C calls a day are spent",
    ]


def test_todays_counts_survive_a_remount_and_yesterdays_do_not(
    counters: Counters, clock: Clock, tmp_path: Path
) -> None:
    spend(counters, LIST, 7)
    spend(counters, READ, 2, down=50)
    Budget(Limits(), counters).save(tmp_path)
    again = Counters(clock)
    spend(again, LIST, 1)  # authorizing comes before the state directory is known
    budget = Budget(Limits(class_c=8), again)
    budget.load(tmp_path)
    assert (budget.facts()["C"], budget.facts()["B"], budget.facts()["down"]) == (8, 2, 100)
    assert budget.ttl_factor == 10
    assert again.totals().classes["C"] == 1  # since the start
    clock.now += 86_400
    tomorrow = Counters(clock)
    budget = Budget(Limits(), tomorrow)
    budget.load(tmp_path)
    assert budget.facts()["C"] == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": -1}', '{"number": 20000, "class_c": "x"}'])
def test_a_damaged_file_of_counts_counts_as_none(counters: Counters, tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    budget = Budget(Limits(), counters)
    budget.load(tmp_path)
    assert budget.facts()["C"] == 0


def test_counts_that_cannot_be_kept_do_no_harm(counters: Counters, tmp_path: Path) -> None:
    spend(counters, LIST, 1)
    Budget(Limits(), counters).save(tmp_path / "missing")


def test_the_free_calls_of_a_day_cost_nothing(counters: Counters) -> None:
    spend(counters, LIST, 2500)
    spend(counters, READ, 2500)
    assert dollars_of_day(counters.today()) == 0
    spend(counters, LIST, 1000)
    assert dollars_of_day(counters.today()) == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("call", "code", "kind", "shown_by"),
    [
        (LIST, "transaction_cap_exceeded", "class_c", "b2_list_file_versions"),
        ("b2_get_file_info", "transaction_cap_exceeded", "class_b", READ),
        (READ, "download_cap_exceeded", "download", READ),
        ("b2_get_upload_url", "storage_cap_exceeded", "storage", UPLOAD),
        (UPLOAD, "cap_exceeded", "storage", "b2_copy_part"),
    ],
)
def test_a_cap_is_kept_until_a_call_shows_that_it_is_lifted(
    counters: Counters, clock: Clock, call: str, code: str, kind: str, shown_by: str
) -> None:
    counters.answered(call, 403, 0.01, code=code)
    clock.now += 10
    counters.answered(call, 403, 0.01, code=code)
    counters.answered("b2_delete_file_version", 200, 0.01)
    cap = counters.totals().caps[kind]
    assert (cap.call, cap.since_ms, cap.last_ms, cap.times) == (
        call,
        int(NOON * 1000),
        int(NOON * 1000) + 10_000,
        2,
    )
    assert cap.over_ms is None
    clock.now += 10
    counters.answered(shown_by, 200, 0.01)
    assert counters.totals().caps[kind].over_ms == int(NOON * 1000) + 20_000


def test_the_log_says_when_a_cap_is_met_and_when_it_is_lifted(
    counters: Counters, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "b2mount.budget")
    budget = Budget(Limits(), counters)
    counters.answered(LIST, 403, 0.01, code="transaction_cap_exceeded")
    budget.tell()
    budget.tell()
    clock.now += 86_400
    counters.answered(LIST, 200, 0.01)
    budget.tell()
    budget.tell()
    assert [record.message for record in caplog.records] == [
        "B2 says that a cap of the account is reached (class_c, at b2_list_file_names)",
        "the cap on class_c is no longer reached",
    ]
