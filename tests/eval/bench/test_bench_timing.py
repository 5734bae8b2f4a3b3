import json
from collections.abc import Callable
from pathlib import Path

import pytest
from avgen_eval.bench.timing import (
    MOST_RUNS,
    Comparison,
    Measurement,
    Prepared,
    Quartiles,
    compare,
    reason_of,
)
from avgen_eval.results import write_json


class Machine:
    """A clock that moves only when something runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def clock(self) -> float:
        return self.now

    def case(self, name: str, cost: Callable[[int], float]) -> Callable[[], Prepared]:
        """A case whose i-th run takes ``cost(i)`` seconds."""

        def prepare() -> Prepared:
            runs = iter(range(10**6))

            def run() -> None:
                self.log.append(name)
                self.now += cost(next(runs))

            return Prepared(run, 7)

        return prepare

    def compare(self, repeats: int, unit: str = "s", work: float | None = None, **cases: object):
        comparison = Comparison("work", cases, unit, work)  # type: ignore[arg-type]
        return compare(comparison, repeats=repeats, clock=self.clock)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def failing(run: int, seconds: float = 1.0) -> Callable[[int], float]:
    """Costs of a case whose given run fails."""

    def cost(i: int) -> float:
        if i == run:
            raise RuntimeError("no memory left\nsecond line")
        return seconds

    return cost


def test_cases_warm_up_and_then_take_turns_in_changing_order(machine: Machine) -> None:
    machine.compare(3, a=machine.case("a", lambda _: 1), b=machine.case("b", lambda _: 1))
    assert "".join(machine.log) == "aabb" + "ab" + "ba" + "ab"


def test_the_warm_up_is_not_part_of_the_figure(machine: Machine) -> None:
    (row,) = machine.compare(4, a=machine.case("a", lambda i: 100.0 if i < 2 else 2.0))
    assert row.seconds == (2.0,) * 4
    assert row.quartiles == Quartiles(2, 2, 2)
    assert row.parameters == 7


def test_what_slows_the_whole_machine_down_leaves_the_ratio_alone(machine: Machine) -> None:
    ours, peer = machine.compare(
        6, ours=machine.case("o", lambda i: 1.5**i), peer=machine.case("p", lambda i: 2 * 1.5**i)
    )
    assert ours.seconds[-1] == pytest.approx(1.5**5 * ours.seconds[0])
    assert peer.ratio is not None
    assert peer.ratio.over == "ours"
    assert peer.ratio.values == pytest.approx([2.0] * 6)
    assert ours.ratio is None


def test_short_cases_run_several_times_in_a_turn(machine: Machine) -> None:
    (row,) = machine.compare(3, a=machine.case("a", lambda _: 0.001))
    assert len(machine.log) == 2 + 3 * 20
    assert row.seconds == pytest.approx([0.001] * 3)
    machine.log.clear()
    machine.compare(2, a=machine.case("a", lambda _: 0.0))
    assert len(machine.log) == 2 + 2 * MOST_RUNS


def test_quartiles_are_of_the_figure_and_within_the_values(machine: Machine) -> None:
    costs = [9, 9, 1.0, 2.0, 4.0, 5.0]
    (row,) = machine.compare(4, "frames/s", 20.0, a=machine.case("a", lambda i: costs[i]))
    assert row.quartiles == pytest.approx((4.75, 7.5, 12.5))
    assert Quartiles.of([1.0, 3.0]) == (1.5, 2.0, 2.5)


@pytest.mark.parametrize("when", [0, 1, 2, 4])
def test_a_peer_that_fails_is_a_row_with_the_reason(machine: Machine, when: int) -> None:
    ours, peer, other = machine.compare(
        3,
        ours=machine.case("o", lambda _: 1.0),
        peer=machine.case("p", failing(when)),
        other=machine.case("q", lambda _: 3.0),
    )
    assert (peer.reason, peer.seconds, peer.ratio, peer.quartiles) == (
        "RuntimeError: no memory left",
        (),
        None,
        None,
    )
    assert machine.log.count("p") == when + 1, "it takes no turn after its failure"
    assert ours.seconds == (1.0,) * 3
    assert other.ratio is not None
    assert other.ratio.values == (3.0,) * 3


def test_without_the_first_case_there_is_no_ratio(machine: Machine) -> None:
    first, second = machine.compare(
        2, first=machine.case("f", failing(0)), second=machine.case("s", lambda _: 1.0)
    )
    assert first.reason
    assert second.seconds == (1.0, 1.0)
    assert second.ratio is None


def test_a_peer_that_is_not_installed_says_how_to_get_it(machine: Machine) -> None:
    def absent() -> Prepared:
        import avgen_no_such_peer  # type: ignore[import-not-found]

        return Prepared(avgen_no_such_peer.run)

    (row,) = machine.compare(2, peer=absent)
    assert row.reason == (
        "ModuleNotFoundError: No module named 'avgen_no_such_peer'; pip install 'avgen[diffusers]'"
    )
    assert reason_of(ValueError()) == "ValueError: "


def test_control_c_stops_the_bench(machine: Machine) -> None:
    def stop(_: int) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.compare(2, a=machine.case("a", stop))


def test_rows_survive_json(machine: Machine, tmp_path: Path) -> None:
    rows = machine.compare(
        5,
        "frames/s",
        49.0,
        ours=machine.case("o", lambda i: 0.123456789 * (1 + i)),
        peer=machine.case("p", lambda i: 0.3 * (1 + i)),
        broken=machine.case("b", failing(0)),
    )
    path = write_json(tmp_path / "rows.json", {"rows": [row.to_dict() for row in rows]})
    ours, peer, broken = json.loads(path.read_text())["rows"]
    assert ours["quartiles"][0] < ours["median"] < ours["quartiles"][1]
    assert ours["median"] == pytest.approx(49 / (0.123456789 * 5), rel=1e-3)
    back = Measurement(ours["comparison"], ours["case"], tuple(ours["seconds"]), "frames/s", 49.0)
    assert back.quartiles == pytest.approx(rows[0].quartiles, rel=1e-3)
    assert "ratio" not in ours
    assert peer["ratio"]["over"] == "ours"
    assert peer["ratio"]["median"] == pytest.approx(0.3 / 0.123456789, rel=1e-3)
    assert broken == {
        "comparison": "work",
        "case": "broken",
        "reason": "RuntimeError: no memory left",
    }
