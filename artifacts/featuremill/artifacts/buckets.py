"""How a bucket is opened: its address, its endpoint and its credentials, for everything that reads or writes there.

Addresses are ``s3://bucket/path``, ``gs://bucket/path``, ``az://container/path`` and their other spellings. What else
it takes comes from the ordinary environment of each cloud, never from an address or a job file, so that no secret can
get into a record:

* S3: ``AWS_ACCESS_KEY_ID`` and its siblings, a profile with keys in ``~/.aws`` (``AWS_PROFILE``), the role of the
  machine or container; ``AWS_REGION``; ``AWS_ENDPOINT_URL`` for another service than Amazon's.
* Cloud Storage: ``GOOGLE_APPLICATION_CREDENTIALS``, what ``gcloud auth application-default login`` left, the machine's
  service account; ``STORAGE_EMULATOR_HOST`` for a local server, which gets no credentials.
* Azure: ``AZURE_STORAGE_ACCOUNT_NAME`` with ``AZURE_STORAGE_ACCOUNT_KEY`` or another credential that `obstore` knows.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from obstore.exceptions import BaseError
from obstore.store import from_url

from featuremill.artifacts.errors import RequestError

__all__ = [
    "BUCKET_SCHEMES",
    "cause",
    "is_bucket",
    "is_missing_bucket",
    "is_url",
    "open_bucket",
    "taken_apart",
    "what_went_wrong",
]

BUCKET_SCHEMES = ("gs", "s3", "s3a", "az", "azure", "abfs", "abfss", "adl")
AZURE_SCHEMES = BUCKET_SCHEMES[3:]
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ENVIRONMENT = ("AWS_", "GOOGLE_", "AZURE_", "STORAGE_EMULATOR_HOST", "HOME")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
# Where object_store looks for a machine's own credentials last, having found no others.
_MACHINE_CREDENTIALS = ("169.254.169.254", "metadata.google.internal", "169.254.170.2")


def is_url(root: str | os.PathLike[str]) -> bool:
    """Whether a root names a scheme: ``gs://bucket/x`` does, ``/data/x`` does not."""
    return bool(_URL.match(os.fspath(root)))


def is_bucket(root: str | os.PathLike[str]) -> bool:
    """Whether a root is in a bucket, and not on this machine.

    >>> [is_bucket(root) for root in ("s3://bucket/x", "file:///data", "/data")]
    [True, False, False]
    """
    scheme = _URL.match(os.fspath(root))
    return scheme is not None and scheme[1].lower() != "file"


def open_bucket(address: str) -> Any:
    """The `obstore` backend at an address; nothing is asked of the network yet.

    Raises
    ------
    RequestError
        When the scheme is unknown, the address names a user or options, or the environment lacks what it takes.

    >>> open_bucket("ftp://x")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: ftp://x: the scheme 'ftp' is not known. Use a folder, gs://, s3:// or az://.
    >>> open_bucket("s3://key:secret@bucket/x")
    Traceback (most recent call last):
    ...
    featuremill.artifacts.errors.RequestError: An address of s3:// holds credentials or a port. Give the bucket alone,
    s3://bucket/path, and credentials and endpoint by the environment.
    """
    scheme, bucket, path = taken_apart(address)
    environment = {k: v for k, v in os.environ.items() if k.startswith(_ENVIRONMENT)}
    try:
        # The path is meant as it stands here, and not as in a browser.
        return _backend(f"{scheme}://{bucket}/{quote(path)}".rstrip("/"), tuple(sorted(environment.items())))
    except (BaseError, ValueError) as error:
        hint = ""
        if scheme in AZURE_SCHEMES and "account" in str(error).lower():
            hint = " Set AZURE_STORAGE_ACCOUNT_NAME, or use abfss://container@account.dfs.core.windows.net/path."
        raise RequestError(f"Cannot open {address}: {what_went_wrong(error)}.{hint}", path=address) from cause(error)


def taken_apart(address: str) -> tuple[str, str, str]:
    """The scheme of an address, in lower case, the bucket and the path in it.

    Raises
    ------
    RequestError
        When the scheme is unknown, there is no bucket, or the address names a user or a port.
    """
    match = _URL.match(address)
    scheme = match[1].lower() if match else ""
    bucket, _, path = address[match.end() :].partition("/") if match else ("", "", "")
    if scheme not in BUCKET_SCHEMES:
        raise RequestError(
            f"{address}: the scheme {scheme!r} is not known. Use a folder, gs://, s3:// or az://.", path=address
        )
    if ("@" in bucket and scheme not in AZURE_SCHEMES) or ":" in bucket:
        raise RequestError(
            f"An address of {scheme}:// holds credentials or a port. Give the bucket alone, {scheme}://bucket/path, "
            "and credentials and endpoint by the environment."
        )
    if not bucket:
        raise RequestError(f"{address}: no bucket is named, expected {scheme}://bucket/path.", path=address)
    return scheme, bucket, path


@lru_cache(maxsize=64)
def _backend(address: str, environment: tuple[tuple[str, str], ...]) -> Any:
    """One client for each address and environment: it keeps its connections open."""
    scheme, given = address.partition("://")[0], dict(environment)
    config: dict[str, Any] = {}
    endpoint = ""
    if scheme in ("s3", "s3a"):
        config = _profile(given)
        endpoint = next((given[k] for k in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") if given.get(k)), "")
        config |= {"endpoint": endpoint} if endpoint else {}
    elif scheme == "gs" and given.get("STORAGE_EMULATOR_HOST"):
        host = given["STORAGE_EMULATOR_HOST"]
        endpoint = (host if "://" in host else f"http://{host}").rstrip("/")
        # With a token of its own, nobody's real one is looked for, nor sent to whatever answers there.
        config = {"base_url": endpoint, "bearer_token": "emulator"}
    options: dict[str, Any] = {"allow_http": True} if endpoint.lower().startswith("http://") else {}
    given_to_all: Any = {"config": config, "client_options": options}  # each cloud's differ in type
    return from_url(address, **given_to_all)


def _profile(environment: Mapping[str, str]) -> dict[str, Any]:
    """Keys and region of the profile in ``~/.aws``, as the AWS tools take them where the environment has no key.

    Profiles that need more than their keys (single sign-on, roles to assume) are for the AWS tools to resolve:
    ``aws configure export-credentials --format env`` puts what they find into the environment.
    """
    if "AWS_ACCESS_KEY_ID" in environment:
        return {}
    name = environment.get("AWS_PROFILE", "default")
    folder = Path(environment.get("HOME", "~")).expanduser() / ".aws"
    files = {
        "credentials": (Path(environment.get("AWS_SHARED_CREDENTIALS_FILE", folder / "credentials")), name),
        "config": (
            Path(environment.get("AWS_CONFIG_FILE", folder / "config")),
            name if name == "default" else f"profile {name}",
        ),
    }
    found: dict[str, str] = {}
    for path, section in files.values():
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except configparser.Error as error:
            # The error's own text may quote the line, and with it a key.
            raise RequestError(f"{path} is no file of AWS profiles ({type(error).__name__}). Mend it.") from None
        found = {**(dict(parser[section]) if parser.has_section(section) else {}), **found}
    if "AWS_PROFILE" in environment and "aws_secret_access_key" not in found:
        raise RequestError(
            f"The AWS profile {name!r} has no keys in {files['credentials'][0]}. Where it signs on or assumes a role, "
            f"run: eval \"$(aws configure export-credentials --profile {name} --format env)\""
        )
    keys = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    config = {key: found[key] for key in keys if key in found}
    if "region" in found and not {"AWS_REGION", "AWS_DEFAULT_REGION"} & environment.keys():
        config["region"] = found["region"]
    return config


def what_went_wrong(error: BaseException) -> str:
    """A backend's error in one line: what the service said, where it said something, and no query of an address.

    >>> what_went_wrong(OSError("Error performing GET http://h/b: <Code>Denied</Code><Message>Not you.</Message>"))
    'Denied: Not you'
    >>> what_went_wrong(OSError("Error performing GET https://h/b?sig=secret in 2ms: no route"))
    'Error performing GET https://h/b?… in 2ms: no route'
    """
    text = str(error)
    code, message = (re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("Code", "Message"))
    if code:
        said = " ".join(message[1].split()).rstrip(".") if message else ""
        return f"{code[1]}: {said}" if said else code[1]
    if any(place in text for place in _MACHINE_CREDENTIALS):
        return "no credentials were found in the environment, and this machine has none of its own"
    line = (text.splitlines() or [type(error).__name__])[0].rstrip(".")
    return re.sub(r"(://[^\s?]*)\?[^\s)]*", r"\1?…", line)


def cause(error: BaseException) -> BaseException | None:
    """The error to chain to one of ours; None when its text holds a signature that opens the place (Azure's SAS).

    >>> cause(OSError("Error performing GET https://h/b?sv=1&sig=secret: no route")) is None
    True
    """
    return None if "sig=" in str(error).lower() else error


def is_missing_bucket(error: BaseException) -> bool:
    """Whether the service said that there is no such bucket."""
    return any(sign in str(error) for sign in _NO_BUCKET)
