"""``python -m bench``: runs it all, prints the tables, keeps them in ``bench/results``."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from bench import load
from bench.arena import arena
from bench.crashing import crash
from bench.crowd import DidNotCome
from bench.growth import TooSlow, grow
from bench.judging import (
    judge_growth,
    judge_live,
    judge_logging,
    judge_speed,
    judge_truth,
)
from bench.live import measure_live
from bench.logging_cost import measure_logging
from bench.measuring import Course, note, race
from bench.plan import QUICK, WHOLE, Plan
from bench.processes import DidNotStart
from bench.report import Report
from service.settings import InvalidSetting
from storage.errors import StartupRefused

INTERRUPTED = 130
FAILURES = (DidNotCome, DidNotStart, TooSlow, load.NoResult)


def main() -> int:
    """0, or 1 where a vote or an answer was not what it must be; missed floors are only marked."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one short round: whether it works, not how fast"
    )
    options = parser.parse_args()
    if sys.platform != "linux":
        print("bench: it reads /proc, so it runs on Linux only.", file=sys.stderr)
        return 1
    if load.find_wrk() is None:
        print(load.MISSING, file=sys.stderr)
        return 1
    # A SIGTERM ends what was started too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        report = run(QUICK if options.quick else WHOLE)
    except KeyboardInterrupt:
        note("stopped")
        return INTERRUPTED
    except (InvalidSetting, StartupRefused, *FAILURES) as error:
        note(str(error))
        return 1
    print(report.text())
    note(f"written to {report.write()}")
    return int(any(verdict.is_truth and not verdict.passed for verdict in report.verdicts))


def run(plan: Plan) -> Report:
    with tempfile.TemporaryDirectory(prefix="polls-bench-") as name, arena(Path(name)) as field:
        for left_out, why in field.left_out.items():
            note(f"{left_out} is left out: {why}")
        course = Course(field)
        results = race(course, field, plan)
        logging = measure_logging(course, field, plan)
        growth = grow(course, field, plan)
        live = measure_live(course, field, plan)
        crashes = crash(field, plan)
        note("recount")
        verdicts = [
            *judge_speed(results),
            *judge_logging(logging),
            *judge_growth(growth),
            *judge_live(live),
            *judge_truth(field, course.answers, crashes),
        ]
        return Report(
            plan=plan,
            engine=field.engine,
            results=results,
            logging=logging,
            growth=growth,
            live=live,
            answers=course.answers,
            crashes=crashes,
            left_out=field.left_out,
            verdicts=verdicts,
        )


if __name__ == "__main__":
    sys.exit(main())
