"""``python -m bench.scaling``: simulates a million votes in one minute; see docs/scaling.md."""

import argparse
import sys

from bench.load import MISSING, NoResult, find_wrk
from bench.processes import DidNotStart
from bench.scaling import comparing, costs, questions
from bench.scaling.measuring import measure
from storage.embedded.engines import DoesNotRun


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument(
        "--measure", action="store_true", help="measure the unit costs on this machine"
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="compare one to four workers with simulations of them",
    )
    options = parser.parse_args()
    if not (options.measure or options.compare):
        print(costs.table(costs.COSTS))
        for title, asked in questions.ALL.items():
            print(f"\n{title}\n")
            for line in questions.table(asked()):
                print(line, flush=True)
        return 0
    if find_wrk() is None:
        print(MISSING, file=sys.stderr)
        return 1
    try:
        if options.measure:
            print(costs.table(comparing.measure_worker(measure())))
        if options.compare:
            print(comparing.table(comparing.compare(costs.COSTS)))
    except (DoesNotRun, DidNotStart, NoResult) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
