"""Flights from a BigQuery table to features, and the reading alone, against Beam's stock connector and the bare client.

    python benchmarks/bigquery.py [--repeats 3]

All read the same table of a local server (bqemulator, see `make servers`), each in a process of its own:

ours        the prepare job of `benchmarks/jobs/flights.yaml`, with the table as its source
stock       ReadFromBigQuery(method=DIRECT_READ) and the stock MLTransform on the direct runner. Beam has no way to set
            an endpoint, so its clients are pointed to the local server by hand; rows come over the wire as Arrow, which
            is the faster of its two formats, and it has no nulls to cope with
read        all 32 columns into batches that are counted and let go, by our fragments, one after the other
to_arrow    the same with google-cloud-bigquery-storage: each stream's `to_arrow`

The time is that of the work, imports and the server's start excluded, the opening of read sessions included.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY / "tests"), str(REPOSITORY / "benchmarks/peers")]

FILLED, WHOLE = "flights.filled", "flights.whole"


def load(server: Any) -> int:
    """The two tables: a key and seven columns without nulls, and everything."""
    import pyarrow as pa
    from common import FILLERS, FLIGHTS_COLUMNS

    from featuremill.jobs.flights import find_data, read_flights
    from support.bigquery import bigquery_types

    flights = bigquery_types(read_flights(find_data()))
    filled = {n: flights[n].fill_null(FILLERS[n]) if n in FILLERS else flights[n] for n in FLIGHTS_COLUMNS}
    server.load(FILLED, pa.table(filled))
    server.load(WHOLE, flights)
    return int(flights.num_rows)


# --- the contestants; each returns rows and seconds -----------------------------------------------------------------


def ours(keys: dict[str, str], folder: Path) -> tuple[int, float]:
    import yaml

    from featuremill.core.loading import job_from_mapping
    from featuremill.jobs.prepare import run

    content = yaml.safe_load((REPOSITORY / "benchmarks/jobs/flights.yaml").read_text())
    content["source"] = {"bigquery": {"table": f"local.{FILLED}", **keys}}
    content["artifact"]["root"], content["dataset"]["path"] = str(folder / "artifacts"), str(folder / "datasets")
    import featuremill.transforms.beam  # noqa: F401  # imported for its time

    began = time.perf_counter()
    record = run(job_from_mapping(content))
    return record.rows.written, time.perf_counter() - began


def stock(keys: dict[str, str], folder: Path) -> tuple[int, float]:
    import apache_beam as beam
    import flights_stock as peer
    import google.cloud.bigquery_storage_v1 as storage
    import pyarrow.parquet as pq
    from apache_beam.internal.http_client import get_new_http
    from apache_beam.io.gcp.bigquery_tools import BigQueryWrapper
    from apache_beam.io.gcp.internal.clients.bigquery import BigqueryV2
    from apache_beam.ml.transforms.base import MLTransform
    from apache_beam.ml.transforms.tft import ComputeAndApplyVocabulary, ScaleTo01, ScaleToZScore

    BigQueryWrapper._bigquery_client = staticmethod(  # Beam's own asks for credentials, if need be on the terminal
        lambda _options: BigqueryV2(
            url=f"{keys['endpoint']}/bigquery/v2/", http=get_new_http(), get_credentials=False, response_encoding="utf8"
        )
    )
    client = storage.BigQueryReadClient
    storage.BigQueryReadClient = lambda: client(transport=_transport(keys))
    began = time.perf_counter()
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        transforms = MLTransform(write_artifact_location=str(folder / "artifacts"))
        for column in peer.FLIGHTS_CATEGORIES:
            transforms = transforms.with_transform(ComputeAndApplyVocabulary(columns=[column], vocab_filename=column))
        _ = (
            pipeline
            | beam.io.ReadFromBigQuery(
                table=f"local:{FILLED}", method="DIRECT_READ", project="local", use_native_datetime=True
            )
            | transforms.with_transform(ScaleToZScore(columns=peer.FLIGHTS_Z_SCORES)).with_transform(
                ScaleTo01(columns=peer.FLIGHTS_MIN_MAX)
            )
            | "Plain" >> beam.Map(peer.plain)
            | beam.io.WriteToParquet(f"{folder}/part", peer.SCHEMA, codec="snappy", file_name_suffix=".parquet")
        )
    seconds = time.perf_counter() - began
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("part*.parquet")), seconds


def read(keys: dict[str, str], _folder: Path) -> tuple[int, float]:
    from featuremill.core.bigquery.source import BigQuerySource
    from featuremill.core.bigquery.spec import BigQuerySpec

    source = BigQuerySource(BigQuerySpec(table=f"local.{WHOLE}", **keys))
    names = source.schema.names
    began = time.perf_counter()
    rows = sum(batch.num_rows for part in source.fragments([names]) for batch in part.batches())
    return rows, time.perf_counter() - began


def to_arrow(keys: dict[str, str], _folder: Path) -> tuple[int, float]:
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient, types

    client = BigQueryReadClient(transport=_transport(keys))
    dataset, _, table = WHOLE.partition(".")
    path = f"projects/local/datasets/{dataset}/tables/{table}"
    asked = types.ReadSession(table=path, data_format=types.DataFormat.ARROW)
    began = time.perf_counter()
    session = client.create_read_session(parent="projects/local", read_session=asked, max_stream_count=2)
    rows = sum(client.read_rows(stream.name).to_arrow(session).num_rows for stream in session.streams)
    return rows, time.perf_counter() - began


def _transport(keys: dict[str, str]) -> Any:
    import grpc
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

    options = [("grpc.max_receive_message_length", -1)]
    return BigQueryReadGrpcTransport(channel=grpc.insecure_channel(keys["storage_endpoint"], options=options))


CONTESTANTS = {"ours": ours, "stock": stock, "read": read, "to_arrow": to_arrow}


# --- the race -------------------------------------------------------------------------------------------------------


def measured(name: str, keys: dict[str, str]) -> tuple[int, float]:
    """Rows and seconds of one contestant, in a process of its own."""
    roots = os.pathsep.join(str(REPOSITORY / root) for root in ("artifacts", "transforms", "platform", "jobs"))
    done = subprocess.run(
        [sys.executable, __file__, "--one", name, "--keys", json.dumps(keys)],
        env={**os.environ, "PYTHONPATH": roots}, capture_output=True, text=True, check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    rows, seconds = json.loads(done.stdout.splitlines()[-1])
    return rows, seconds


def race(repeats: int) -> None:
    """Print the medians and the ratios."""
    from support.bigquery import local_bigquery

    with local_bigquery() as server:
        rows = load(server)
        found: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
        for turn in range(repeats):
            for name, times in found.items():
                if name == "stock" and turn:
                    continue  # a minute a time, and it varies little
                done, seconds = measured(name, server.keys)
                if done != rows:
                    raise SystemExit(f"{name} gave {done:,} rows, expected {rows:,}")
                times.append(seconds)
    median = {name: statistics.median(times) for name, times in found.items()}
    for name, seconds in median.items():
        print(f"{name:10}{seconds:8.2f} s {rows / seconds:12,.0f} rows/s   ({len(found[name])} runs)")
    print(f"ours / stock: {median['stock'] / median['ours']:.1f} times the rows/s")
    print(f"read / to_arrow: {median['read'] / median['to_arrow']:.2f} times the time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(CONTESTANTS[arguments.one](arguments.keys, Path(scratch))), flush=True)
    else:
        race(arguments.repeats)
