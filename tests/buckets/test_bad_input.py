"""What is wrong with a bucket is said before anything runs: one error, with the place and without secrets."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from featuremill.artifacts.errors import FeaturemillError, RequestError
from featuremill.artifacts.store import open_store
from featuremill.core.dataset import Staging
from featuremill.core.files import find_files
from featuremill.core.loading import job_from_mapping
from featuremill.core.models.files import local_path
from featuremill.jobs.cli import main
from featuremill.jobs.prepare import run
from support.buckets import KEYS, Cloud, s3_server

ROWS = pa.table({"x": np.arange(20.0)})
BOTH = pytest.mark.parametrize("cloud", ["s3", "gcs"], indirect=True)


def content(source: str, artifacts: str, dataset: str) -> dict[str, Any]:
    return {
        "kind": "prepare",
        "name": "small",
        "source": {"parquet": {"path": source}},
        "transforms": [{"type": "ScaleTo01", "config": {"columns": ["x"]}}],
        "artifact": {"root": artifacts},
        "dataset": {"path": dataset},
    }


@pytest.fixture
def rows(tmp_path: Path) -> str:
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet")


def refused(source: str, artifacts: str, dataset: str) -> str:
    with pytest.raises(RequestError) as caught:
        run(job_from_mapping(content(source, artifacts, dataset)), run_id="night")
    return str(caught.value)


@BOTH
@pytest.mark.parametrize("part", ["source", "artifacts", "dataset"])
def test_a_bucket_that_does_not_exist(cloud: Cloud, part: str, rows: str, tmp_path: Path) -> None:
    bucket, gone = cloud.bucket(), f"{cloud.scheme}://no-such-bucket/home"
    places = {"source": rows, "artifacts": f"{bucket}/artifacts", "dataset": f"{bucket}/data"} | {part: gone}
    said = refused(**places)
    assert "there is no bucket 'no-such-bucket'" in said and gone in said
    assert "\n" not in said
    assert open_store(bucket).list() == []


@BOTH
def test_other_things_of_a_bucket_that_does_not_exist(cloud: Cloud) -> None:
    gone = f"{cloud.scheme}://no-such-bucket"
    for look in (find_files, local_path):
        for path in (f"{gone}/a/b.parquet", f"{gone}/a/*.parquet"):
            with pytest.raises(FeaturemillError, match="there is no bucket 'no-such-bucket'"):
                look(path)


@BOTH
def test_files_that_are_not_there(cloud: Cloud) -> None:
    bucket = cloud.bucket()
    open_store(bucket).put("a/b.parquet", b"x")
    for path, words in [("a/c.parquet", "no such file"), ("a/c*.parquet", "no file matches"), ("b/", "no such file")]:
        with pytest.raises(RequestError, match=words):
            find_files(f"{bucket}/{path}")
    assert [f.name for f in find_files(f"{bucket}/a/?.parquet")] == ["b.parquet"]
    assert [f.path for f in find_files(f"{bucket}/")] == [f"{bucket}/a/b.parquet"]


def test_a_job_file_ends_with_status_2(s3: Cloud, rows: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(content(rows, str(tmp_path / "artifacts"), "s3://no-such-bucket/data")))
    assert main(["run", str(file)]) == 2
    said = capsys.readouterr().err
    assert "there is no bucket 'no-such-bucket'" in said
    assert "Traceback" not in said


# --- read-only credentials -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cloud]:
    """An S3 that checks signatures and policies, and a user who may read only."""
    with s3_server() as cloud:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in cloud.environment.items():
                patch.setenv(name, value)
            cloud.bucket("shared")
            data = pa.BufferOutputStream()
            pq.write_table(ROWS, data)
            open_store("s3://shared").put("rows/a.parquet", data.getvalue().to_pybytes())
        _iam(cloud, Action="CreateUser", UserName="reader")
        statement = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        _iam(cloud, Action="PutUserPolicy", UserName="reader", PolicyName="reads", PolicyDocument=policy)
        keys = _iam(cloud, Action="CreateAccessKey", UserName="reader")
        found = {k: re.findall(f"<{k}>(.*?)</{k}>", keys)[0] for k in ("AccessKeyId", "SecretAccessKey")}
        _post(f"{cloud.endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
        environment = {
            **cloud.environment,
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        }
        yield Cloud("s3", cloud.endpoint, environment)


def _iam(cloud: Cloud, **parameters: str) -> str:
    scope = "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x"
    body = urllib.parse.urlencode({"Version": "2010-05-08", **parameters}).encode()
    return _post(cloud.endpoint, body, {"Authorization": scope})


def _post(url: str, body: bytes, headers: dict[str, str]) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
        text: str = answer.read().decode()
    return text


@pytest.fixture(params=["guarded", "gcs"])
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with rows, in which the credentials allow nothing but reading."""
    cloud: Cloud = request.getfixturevalue(request.param)
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    if cloud.scheme == "s3":
        return "s3://shared"
    bucket = cloud.bucket(f"shared-{uuid.uuid4().hex[:8]}-read-only")
    data = pa.BufferOutputStream()
    pq.write_table(ROWS, data)
    cloud.upload(f"{bucket}/rows/a.parquet", data.getvalue().to_pybytes())
    return bucket


def test_read_only_credentials(shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading works; a place to write to is refused before the run, and nothing is left anywhere."""
    rows, here = f"{shared}/rows/a.parquet", str(tmp_path / "here")
    for places in ((rows, f"{shared}/artifacts", here), (rows, here, f"{shared}/data")):
        said = refused(*places)
        assert f"Not allowed to write {shared}/" in said and "Choose a place where you may" in said
        assert "\n" not in said
        assert not (tmp_path / "here").exists()
    with pytest.raises(RequestError, match="Not allowed to write"):
        Staging(f"{shared}/data", "night").open()
    assert open_store(shared).list() == ["rows/a.parquet"]
    if shared.startswith("gs"):
        return
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    said = refused(rows, here, here)
    assert "Not allowed to list s3://shared" in said or "Not allowed to look at s3://shared" in said
    assert "wrong-and-secret" not in said


def test_credentials_that_see_rows_are_enough_to_read(shared: str, tmp_path: Path) -> None:
    job = content(f"{shared}/rows", str(tmp_path / "artifacts"), str(tmp_path / "data"))
    assert run(job_from_mapping(job)).splits == {"all": 20}


# --- addresses and environments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["s3://key:hidden@bucket/x", "gs://hidden@bucket/x", "s3://bucket:hidden/x"])
def test_an_address_holds_no_credentials(address: str) -> None:
    for look in (open_store, find_files):
        with pytest.raises(RequestError, match="credentials or a port") as caught:
            look(address)
        assert "hidden" not in str(caught.value)


def test_azure_wants_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="Set AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://container/folder")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    for address in ("az://container/a", "abfss://container@account.dfs.core.windows.net/a"):
        assert open_store(address).root == address


def test_keys_of_a_profile(s3: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[work]\naws_access_key_id = a\naws_secret_access_key = hidden\n[login]\nsso_session = x\n"
    )
    (tmp_path / ".aws" / "config").write_text("[profile work]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_PROFILE", "work")
    store = open_store(s3.bucket())
    store.put("a", b"1")
    assert store.get("a") == b"1"
    monkeypatch.setenv("AWS_PROFILE", "login")
    with pytest.raises(RequestError, match="profile 'login' has no keys.*export-credentials --profile login"):
        open_store("s3://bucket/x")
    (tmp_path / ".aws" / "credentials").write_text("aws_secret_access_key = hidden\n")
    with pytest.raises(RequestError, match="no file of AWS profiles") as caught:
        open_store("s3://bucket/x")
    assert "hidden" not in str(caught.value) and caught.value.__cause__ is None
