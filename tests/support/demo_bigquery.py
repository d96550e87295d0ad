"""A whole job from BigQuery, without a cloud: `make demo-bigquery`.

A local server is started and every flight that left New York City in 2013 is loaded into a table; then the example
`flights_bigquery.yaml` runs on it as it would anywhere else.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from featuremill.jobs.flights import find_data, read_flights
from featuremill.jobs.render import command
from support.bigquery import bigquery_types, local_bigquery

JOB = Path(__file__).parents[2] / "jobs/featuremill/jobs/examples/flights_bigquery.yaml"


def main() -> int:
    """Run the demo; its exit status."""
    with local_bigquery() as server:
        print(f"BigQuery's stand-in listens on {server.endpoint} (REST) and {server.storage_endpoint} (Storage API)")
        began = time.monotonic()
        flights = bigquery_types(read_flights(find_data()))
        table = server.load("flights.departures", flights)
        print(f"{flights.num_rows:,} flights loaded into {table} in {time.monotonic() - began:.1f} s")
        settings = [f"source.bigquery.{key}={value}" for key, value in {"table": table, **server.keys}.items()]
        words = ["run", str(JOB.relative_to(Path.cwd())), *(w for s in settings for w in ("--set", s))]
        print(f"\n{command('featuremill', *words)}\n", flush=True)
        return subprocess.run([sys.executable, "-m", "featuremill.jobs", *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
