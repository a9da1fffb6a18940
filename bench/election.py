"""Elections under faults, simulated: the real state machine and the real lease on a fake clock and network.

    python bench/election.py [--runs 1000] [--first-seed 0]

Prints one table, and ends with 1 when an invariant broke; `docs/election.md` says what the invariants are. A seed tells
a run completely: `chaos(seed, candidates)` of `tests/node/faults.py` runs it again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.node.faults import LEASE_TIMES_TO_RECOVER, Report, chaos

SIZES = ((2, 3), (4, 7), (8, 15), (16, 50))


def candidates_of(seed: int) -> int:
    """2 to 50, small clusters more often: there everyone's word is given more often, which is the hard part."""
    return round(2 * 25 ** random.Random(seed).random() ** 2)


def row(name: str, reports: list[Report], seconds: float) -> str:
    recoveries = sorted(report.recovery for report in reports)
    p99 = recoveries[max(0, -(-99 * len(recoveries) // 100) - 1)]
    violations = sum(len(report.violations) for report in reports)
    lone = sum(1 for report in reports if report.lone_overlaps)
    median = statistics.median(recoveries)
    return (
        f"{name:>10} {len(reports):>6} {violations:>10} {median:>8.2f} {p99:>8.2f} {recoveries[-1]:>8.2f} "
        f"{lone:>10} {sum(report.epochs < 10**9 and report.epochs for report in reports):>8} "
        f"{sum(report.events for report in reports):>10} {seconds:>8.1f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    groups: dict[tuple[int, int], list[Report]] = {size: [] for size in SIZES}
    spent = dict.fromkeys(SIZES, 0.0)
    for seed in range(options.first_seed, options.first_seed + options.runs):
        candidates = candidates_of(seed)
        size = next(size for size in SIZES if size[0] <= candidates <= size[1])
        began = time.perf_counter()
        groups[size].append(chaos(seed, candidates))
        spent[size] += time.perf_counter() - began
    print_table(groups, spent)
    broken = [report for reports in groups.values() for report in reports if report.violations]
    for report in broken[:20]:
        print(f"✗ chaos({report.seed}, {report.candidates}): {report.violations[0]}")
    return 1 if broken else 0


def print_table(groups: dict[tuple[int, int], list[Report]], spent: dict[tuple[int, int], float]) -> None:
    print(f"Recovery in lease times after the network healed; at most {LEASE_TIMES_TO_RECOVER} are allowed.")
    print("candidates   runs violations   median      p99      max  lone head   epochs     events  seconds")
    everything = [report for reports in groups.values() for report in reports]
    for (low, high), reports in groups.items():
        if reports:
            print(row(f"{low}-{high}", reports, spent[low, high]))
    print(row("all", everything, sum(spent.values())))
    print("lone head: runs in which a head that started without a health server acted beside one with a lease for a while.")


if __name__ == "__main__":
    sys.exit(main())
