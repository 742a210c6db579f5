from saccade.runtime.suspension import SuspensionWatch

MS = 1_000_000


def test_each_sleep_is_told_once_and_jitter_never() -> None:
    asleep = [5_000 * MS]
    watch = SuspensionWatch(lambda: asleep[0])
    found = []
    for now in (5_000, 5_001, 5_099, 65_000, 65_000, 65_050, 66_000):
        asleep[0] = now * MS
        found.append(watch.slept_ns() // MS)
    assert found == [0, 0, 0, 60_000, 0, 0, 1_000]


def test_a_machine_that_is_awake_did_not_sleep() -> None:
    watch = SuspensionWatch()
    assert watch.slept_ns() == 0
