"""Results and suites as files that Great Expectations reads itself.

The layout is that of its file-system stores below a project folder, ``great_expectations.yml`` included. So the folder
opens with ``great_expectations.get_context(context_root_dir=…)``, and its validation store lists the run. The files go
through our own store: a run's folder may be a bucket, and no data context is made, which would look for one in the
current folder and in the user's home.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from featuremill.artifacts.store import Store

if TYPE_CHECKING:
    from featuremill.core.quality.expectations.suites import Suite

__all__ = ["CONTEXT_FILE", "result_identifier", "result_path", "save_result", "suite_path"]

CONTEXT_FILE = "great_expectations.yml"
RESULTS = "uncommitted/validations"
SUITES = "expectations"


def result_identifier(result: Any) -> Any:
    """Great Expectations' own key of a result: its suite, its run and its rows."""
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    return ValidationResultIdentifier(
        expectation_suite_identifier=ExpectationSuiteIdentifier(name=result.suite_name),
        run_id=result.meta["run_id"],
        batch_identifier=result.batch_id,
    )


def result_path(result: Any) -> str:
    """Where the result lies below the project folder."""
    return f"{RESULTS}/{'/'.join(result_identifier(result).to_tuple())}.json"


def suite_path(suite: Suite) -> str:
    """Where the suite lies below the project folder."""
    from great_expectations.data_context.types.resource_identifiers import ExpectationSuiteIdentifier

    return f"{SUITES}/{'/'.join(ExpectationSuiteIdentifier(name=suite.name).to_tuple())}.json"


def save_result(result: Any, suite: Suite, store: Store, folder: str = "") -> list[str]:
    """Write a result, its suite and the project file below a folder of a store; the paths that were written.

    Another result saved to the same folder is added.
    """
    from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResultSchema

    content = ExpectationSuiteValidationResultSchema().dump(result.to_json_dict())
    files = {
        CONTEXT_FILE: project(),
        suite_path(suite): _json(suite.to_json()),
        result_path(result): _json(content),
    }
    prefix = f"{folder.rstrip('/')}/" if folder else ""
    for path, text in files.items():
        store.put(prefix + path, text.encode())
    return [prefix + path for path in files]


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def project() -> str:
    """The project file: where the stores are, and that no usage statistics are sent."""
    def files(class_name: str, folder: str) -> dict[str, Any]:
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": f"{folder}/"}
        return {"class_name": class_name, "store_backend": backend}

    return _json({
        "config_version": 4.0,
        "analytics_enabled": False,
        "plugins_directory": None,
        "stores": {
            "expectations_store": files("ExpectationsStore", SUITES),
            "validation_results_store": files("ValidationResultsStore", RESULTS),
            "checkpoint_store": files("CheckpointStore", "checkpoints"),
            "validation_definition_store": files("ValidationDefinitionStore", "validation_definitions"),
        },
        "expectations_store_name": "expectations_store",
        "validation_results_store_name": "validation_results_store",
        "checkpoint_store_name": "checkpoint_store",
        "data_docs_sites": {},
        "fluent_datasources": {},
    })
