"""``make fuzz``: runs for ten minutes, or with the given arguments of schemathesis."""

import sys
import tempfile
from pathlib import Path

from tests.fuzzing import fuzz
from tests.support.processes import services_in

LONG = ("--max-time", "600", "--max-examples", "200")

with tempfile.TemporaryDirectory() as home, services_in(Path(home)) as services:
    found = fuzz(services, sys.argv[1:] or LONG)
sys.exit(found)
