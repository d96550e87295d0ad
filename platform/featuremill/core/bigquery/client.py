"""Clients of BigQuery, one for each process, and its errors in our words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

from featuremill.artifacts.errors import FeaturemillError, JobError, ParameterError, RequestError, suggest
from featuremill.core.bigquery.spec import BigQueryAccess, TableName, is_local_endpoint
from featuremill.core.models.extras import import_extra

__all__ = [
    "CALL_SECONDS", "billed", "jobs_client", "missing_table", "one_line", "patience", "read_client", "told",
    "write_client",
]  # fmt: skip

SCOPES = ("https://www.googleapis.com/auth/bigquery",)
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CALL_SECONDS = 300.0
"""How long one call may take; opening a session of a large table takes the longest."""
RETRY_SECONDS = 60.0
"""How long calls that only look are repeated while the service is not to be had."""
LOCAL_SECONDS = 2.0
"""The same for a server of this machine: it is there or it is not."""

NEEDED = (
    "Reading takes bigquery.tables.get and bigquery.tables.getData on the table (the role BigQuery Data Viewer), and "
    "bigquery.readsessions.create, bigquery.readsessions.getData and bigquery.jobs.create on the billing project (the "
    "roles BigQuery Read Session User and BigQuery Job User)."
)


def patience(access: BigQueryAccess) -> float:
    """Seconds for which a call that failed for the time being is repeated."""
    return LOCAL_SECONDS if is_local_endpoint(access.endpoint) else RETRY_SECONDS


@lru_cache(maxsize=16)
def _credentials(access: BigQueryAccess) -> tuple[Any, str | None]:
    """Credentials, and the project that goes with them where there is one."""
    auth = import_extra("google.auth", "gcp", "BigQuery")
    if access.credentials is not None:
        # Of one kind, by name: files of other kinds can send the process to places that their author chose.
        kind = import_extra("google.oauth2.service_account", "gcp", "BigQuery").Credentials
        with told("the credentials", parameter="credentials"):
            key = kind.from_service_account_file(_path(access.credentials), scopes=SCOPES)
            return (key.with_quota_project(access.quota_project) if access.quota_project else key), key.project_id
    if is_local_endpoint(access.endpoint):
        return import_extra("google.auth.credentials", "gcp", "BigQuery").AnonymousCredentials(), None
    with told("the environment"):
        found: tuple[Any, str | None] = auth.default(scopes=SCOPES, quota_project_id=access.quota_project)
        return found


def _path(reference: str) -> str:
    if not reference.startswith("env:"):
        return os.path.expanduser(reference)
    name = reference.removeprefix("env:")
    if not os.environ.get(name):
        raise ParameterError(
            f"credentials: the environment variable {name} is not set. It holds the path of a key file.",
            parameter="credentials",
            value=reference,
        )
    return os.environ[name]


def billed(access: BigQueryAccess, fallback: str | None = None) -> BigQueryAccess:
    """The access with its billing project settled: what it says, the environment's, or else `fallback`.

    Raises
    ------
    ParameterError
        When there is none of them.
    """
    project = access.billing_project or _credentials(access)[1] or fallback
    if project is None:
        raise ParameterError(
            "billing_project: neither the job file nor the environment names a project. Write project.dataset.table, "
            "or set billing_project.",
            parameter="billing_project",
        )
    return access.model_copy(update={"billing_project": project})


def credentials_of(access: BigQueryAccess) -> Any:
    """The credentials that clients are made with."""
    return _credentials(access)[0]


@lru_cache(maxsize=16)
def jobs_client(access: BigQueryAccess) -> Any:
    """A ``google.cloud.bigquery.Client`` for metadata and queries; `access` is :func:`billed`."""
    bigquery = import_extra("google.cloud.bigquery", "gcp", "BigQuery")
    from google.api_core.client_options import ClientOptions

    return bigquery.Client(
        project=access.billing_project,
        credentials=credentials_of(access),
        location=access.location,
        client_options=ClientOptions(api_endpoint=access.endpoint, quota_project_id=access.quota_project),
    )


@lru_cache(maxsize=16)
def read_client(access: BigQueryAccess) -> Any:
    """The generated client of the Storage Read API; its connection is shared by all threads.

    Not the one of ``google.cloud.bigquery_storage``: that one reconnects a broken stream for ever and without a pause.
    """
    return _storage_client(access, "Read")


@lru_cache(maxsize=16)
def write_client(access: BigQueryAccess) -> Any:
    """The generated client of the Storage Write API; its connection is shared by all threads."""
    return _storage_client(access, "Write")


def _storage_client(access: BigQueryAccess, half: Literal["Read", "Write"]) -> Any:
    name = f"google.cloud.bigquery_storage_v1.services.big_query_{half.lower()}"
    client = getattr(import_extra(name, "gcp", "BigQuery"), f"BigQuery{half}Client")
    from google.api_core.client_options import ClientOptions

    if is_local_endpoint(access.storage_endpoint):
        grpc = import_extra("grpc", "gcp", "BigQuery")
        transports = import_extra(f"{name}.transports", "gcp", "BigQuery")
        channel = grpc.insecure_channel(access.storage_endpoint, options=UNLIMITED)
        return client(transport=getattr(transports, f"BigQuery{half}GrpcTransport")(channel=channel))
    return client(
        credentials=credentials_of(access),
        client_options=ClientOptions(api_endpoint=access.storage_endpoint, quota_project_id=access.quota_project),
    )


# --- errors ---------------------------------------------------------------------------------------------------------


def one_line(error: BaseException) -> str:
    """What Google's error says, in one line and without the request's address."""
    text = " ".join(str(getattr(error, "message", None) or error).split())
    return text.partition("?prettyPrint=false: ")[2] or text


@contextlib.contextmanager
def told(
    what: str, *, kind: type[FeaturemillError] = RequestError, needed: str = NEEDED, **facts: Any
) -> Iterator[None]:
    """Google's errors within the block as ours: `what` was tried, why it failed, and what to do.

    `needed` says which permissions it takes.

    Raises
    ------
    RequestError
        Or another `kind`, for what is refused.
    JobError
        Where the service cannot be reached.
    """
    exceptions = import_extra("google.api_core.exceptions", "gcp", "BigQuery")
    auth = import_extra("google.auth.exceptions", "gcp", "BigQuery")
    import requests

    unreachable = (exceptions.ServiceUnavailable, exceptions.RetryError, exceptions.DeadlineExceeded)
    try:
        yield
    except FeaturemillError:
        raise
    except (exceptions.Forbidden, exceptions.Unauthenticated, exceptions.Unauthorized) as error:
        raise kind(f"BigQuery, {what}: permission denied. {one_line(error)} {needed}", **facts) from error
    except (*unreachable, requests.exceptions.ConnectionError, auth.TransportError) as error:
        raise JobError(
            f"BigQuery, {what}: the service cannot be reached ({one_line(error)}). Check network and endpoints.",
            **facts,
        ) from error
    except exceptions.GoogleAPICallError as error:
        raise kind(f"BigQuery, {what}: {one_line(error)}", **facts) from error
    except (auth.GoogleAuthError, OSError) as error:
        raise kind(
            f"BigQuery, {what}: no usable credentials ({one_line(error)}). Run `gcloud auth application-default "
            "login`, or set credentials to a service account's key file.",
            **facts,
        ) from error


def missing_table(client: Any, table: TableName, seconds: float) -> RequestError:
    """The error for a table that is not there: whether it is the project, the dataset or the table, and what is."""
    datasets = [d.dataset_id for d in _listed(lambda **o: client.list_datasets(table.project, **o), seconds)]
    if not datasets:
        return RequestError(
            f"table: there is no project {table.project!r}, or nothing in it that these credentials may see.",
            parameter="table",
            value=str(table),
        )
    if table.dataset not in datasets:
        return RequestError(
            f"table: there is no dataset {table.dataset!r} in the project {table.project}. "
            f"{suggest(table.dataset, datasets)}",
            parameter="table",
            value=str(table),
        )
    place = f"{table.project}.{table.dataset}"
    tables = [t.table_id for t in _listed(lambda **o: client.list_tables(place, **o), seconds)]
    hint = suggest(table.table, tables) if tables else "It has no tables."
    return RequestError(
        f"table: there is no table {table.table!r} in {place}. {hint}", parameter="table", value=str(table)
    )


def _listed(call: Any, seconds: float) -> Sequence[Any]:
    """A list for a hint: nothing where it may not be seen."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.bigquery import DEFAULT_RETRY

    try:
        return list(call(max_results=100, retry=DEFAULT_RETRY.with_timeout(seconds)))
    except GoogleAPICallError:
        return []
