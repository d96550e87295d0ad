"""Exported PyTorch programs (``.pt2``), read without running what somebody hid in them.

``torch.export.load`` trusts its file. A crafted one runs code from pickled tensors and objects, from symbolic sizes
(which SymPy evaluates) and from guards (which are compiled as Python); functions of the graph are looked up by name,
and names become source. So the archive is read here first, every member by a list of what may be in it, and written
anew from what was checked: what torch loads is the copy, and whatever another reader of zip files might have seen in
the original is not in it.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from featuremill.core.models.contract import ModelFileError

__all__ = ["checked_archive"]

MODEL = "models/model.json"
WEIGHTS = "data/weights/"
CONSTANTS = "data/constants/"
SAMPLES = "data/sample_inputs/"
NATIVE = "data/aotinductor/"
CONFIG = "_config.json"
# By the first letters of a longer path torch would tell another kind of member.
PAYLOAD = re.compile(r"data/(weights|constants)/((weight|tensor)_\d+|model\.pt|model_(weights|constants)_config\.json)")
PLAIN = frozenset({"archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id"})

# Names become source code, and attribute paths of the module. ASCII: Python takes other forms of a letter for it.
NAME = re.compile(r"\w*", re.ASCII)
WORDS = re.compile(r"[\w.:/<>=+$-]*", re.ASCII)
OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized|quantized_decomposed|torchvision)"
    r"\.((?!__)\w+|__i?(and|or|xor|lshift|rshift)__)\.(?!_)\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|map_impl|scan|associative_scan|wrap_with_set_grad_enabled"
    r"|wrap_with_autocast|invoke_subgraph)"
    r"|torch\.sym_(max|min|not|ite|int|float|sum|sqrt)"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|and_|or_|not_|eq|ne|lt|le|gt|ge|getitem|lshift|rshift)"
    r"|math\.(ceil|floor|trunc|sqrt)",
    re.ASCII,
)
# These read and write files.
FILE_OPERATOR = re.compile(r"torch\.ops\.aten\.(from_file|save|load)\..*")
SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)", re.ASCII)
ARITHMETIC = re.compile(r"[\w .+*/%(),<>=!&|~-]*", re.ASCII)
ATTRIBUTE = re.compile(r"\.(?!\d)|(?<!\d)\.")
WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*", re.ASCII)
SIZE = re.compile(r"[a-z]{1,3}\d+", re.ASCII)
FUNCTIONS = frozenset(
    {
        "Add", "Mul", "Pow", "Mod", "Max", "Min", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not",
        "Integer", "Rational", "Float", "Abs", "ceiling", "floor", "true", "false", "oo", "evaluate", "True",
        "False", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt",
        "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv",
        "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt", "RoundToInt", "RoundDecimal",
        "ToFloat", "Identity", "StrictGreaterThan", "StrictLessThan", "GreaterThan", "LessThan", "Equality",
        "Unequality",
    }
)
CONTAINERS = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})


def checked_archive(data: bytes, where: str) -> bytes:
    """The bytes of a ``.pt2`` archive that holds nothing but what was checked; `where` names the file in errors.

    Left out: sample inputs, guards, source positions and extra files, none of which a prediction needs.

    Raises
    ------
    ModelFileError
        When the archive is damaged, older than PyTorch 2.8, or holds what could run code.

    >>> checked_archive(b"PK", "model.pt2")
    Traceback (most recent call last):
    ...
    featuremill.transforms.onnx_sessions.ModelFileError: model.pt2 is no exported program: it is no zip archive. \
Write one with torch.export.save.
    """
    members = _members(data, where)
    if MODEL not in members:
        _no_program(where, f"it has no {MODEL}")
    kept = {name: content for name, content in members.items() if name in PLAIN}
    for name, content in members.items():
        if name.startswith(NATIVE):
            _refuse(where, name, "it holds compiled code (AOTInductor)")
        if name.startswith(SAMPLES):
            _tensors(content, where, name)
        if name.startswith((WEIGHTS, CONSTANTS)):
            kept[name] = _payload(name, content, members, where)
    kept[MODEL] = json.dumps(_checked_model(_parsed(members[MODEL], where, MODEL), where)).encode()
    kept[SAMPLES + "model.pt"] = b""
    return _packed(kept)


def _members(data: bytes, where: str) -> dict[str, bytes]:
    """The members by their paths below the archive's one folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = {i.filename: archive.read(i) for i in archive.infolist() if not i.is_dir()}
            if len(contents) != len([i for i in archive.infolist() if not i.is_dir()]):
                _refuse(where, "the archive", "it holds a member twice")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        _no_program(where, "it is no zip archive" if isinstance(error, zipfile.BadZipFile) else str(error))
    if "serialized_exported_program.json" in contents:
        _no_program(where, "it is in the format of PyTorch before 2.8, whose parts are pickles")
    if len({name.partition("/")[0] for name in contents}) != 1:
        _no_program(where, "it has not one folder but several, or none")
    return {name.partition("/")[2]: content for name, content in contents.items()}


def _packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return buffer.getvalue()


# --- weights ----------------------------------------------------------------------------------------------------------


def _payload(name: str, content: bytes, members: dict[str, bytes], where: str) -> bytes:
    if not PAYLOAD.fullmatch(name):
        _refuse(where, name, "it is a pickled object and no tensor")
    if name.endswith(CONFIG):
        config = _parsed(content, where, name)
        _walk(config, _payload_rule(where, name))
        return json.dumps(config).encode()
    folder, _, file = name.rpartition("/")
    return _tensors(content, where, name) if file in _pickled(folder, members, where) else content


def _pickled(folder: str, members: dict[str, bytes], where: str) -> set[str]:
    """The files of a folder that torch would unpickle: those its configuration says, and the one of the old format."""
    named = {"model.pt"}
    for name, content in members.items():
        if name.startswith(f"{folder}/") and name.endswith(CONFIG):
            entries = _parsed(content, where, name).get("config")
            if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
                _no_program(where, f"{name} is damaged")
            named |= {str(e.get("path_name")) for e in entries.values() if e.get("use_pickle") is not False}
    return named


def _tensors(content: bytes, where: str, name: str) -> bytes:
    """A pickle of tensors, pickled anew; refused when it asks for anything else."""
    import torch

    if not content:
        return content
    try:
        value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 -- a crafted pickle raises what it likes, and all of it means no
        _refuse(where, name, f"it is a pickle of more than tensors ({str(error).strip().splitlines()[0]})")
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


# --- the graph --------------------------------------------------------------------------------------------------------

Rule = Callable[[str, str], None]


def _walk(value: Any, rule: Rule, key: str = "") -> None:
    """Every text in plain data, with the key that it stands under; keys of their own are held to be names."""
    if isinstance(value, str):
        rule(key, value)
    elif isinstance(value, list):
        for item in value:
            _walk(item, rule, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            rule("", name)
            _walk(item, rule, name)


def _payload_rule(where: str, member: str) -> Rule:
    def rule(key: str, text: str) -> None:
        if key == "expr_str":
            _expression(text, where, member)
        elif not WORDS.fullmatch(text):
            _refuse(where, member, f"{text[:60]!r} is no name")

    return rule


def _checked_model(model: dict[str, Any], where: str) -> dict[str, Any]:
    """The program, less what is not needed; refused when a text in it could become code."""
    model["guards_code"] = []
    graph_module = model.get("graph_module")
    if not isinstance(graph_module, dict):
        _no_program(where, f"{MODEL} is damaged")
    graph_module["metadata"] = {}
    for node in _nodes(graph_module):
        node["metadata"] = {}

    def rule(key: str, text: str) -> None:
        if key in ("target", "as_operator"):
            if not OPERATOR.fullmatch(text) or FILE_OPERATOR.fullmatch(text):
                _refuse(where, MODEL, f"it calls {text[:80]!r}, which is not among the operators that are known safe")
        elif key == "expr_str":
            _expression(text, where, MODEL)
        elif key in ("in_spec", "out_spec"):
            _containers(key, text, where)
        elif key == "class_fqn":
            _refuse(where, MODEL, f"it needs an object of the class {text[:80]!r}")
        elif key in ("name", "as_name", "forward_arg_names"):
            if not NAME.fullmatch(text):
                _refuse(where, MODEL, f"{text[:60]!r} is no name")
        elif key not in ("as_string", "as_strings") and not WORDS.fullmatch(text):
            _refuse(where, MODEL, f"{text[:60]!r} is no name")

    _walk(model, rule)
    return model


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every call of the graph and of the graphs inside it."""
    if isinstance(value, dict):
        if "target" in value and "metadata" in value:
            yield value
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def _expression(text: str, where: str, member: str) -> None:
    rest = SYMBOL.sub("1", text)
    known = all(word in FUNCTIONS or SIZE.fullmatch(word) for word in WORD.findall(rest))
    if not known or not ARITHMETIC.fullmatch(rest) or ATTRIBUTE.search(rest):
        _refuse(where, member, f"the size {text[:80]!r} is more than arithmetic")


def _containers(name: str, text: str, where: str) -> None:
    """Refuse inputs and outputs in anything but plain containers: other types import modules."""
    try:
        (_, todo) = json.loads(text)
        found = [todo]
        while found:
            entry = found.pop()
            if entry["type"] is None:
                continue
            keys = json.loads(entry["context"])
            plain = keys is None or (isinstance(keys, list) and all(isinstance(k, str) for k in keys))
            if name == "in_spec" and not all(NAME.fullmatch(k) for k in keys or [] if isinstance(k, str)):
                _refuse(where, MODEL, f"the inputs {keys!r} have no plain names")
            if entry["type"] not in CONTAINERS or not plain:
                _refuse(where, MODEL, f"its inputs or outputs are of the type {str(entry['type'])[:80]!r}")
            found += entry["children_spec"]
    except (ValueError, KeyError, TypeError):
        _no_program(where, f"{MODEL} is damaged: {text[:60]!r} describes no inputs")


def _parsed(content: bytes, where: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        _no_program(where, f"{name} is no JSON ({error})")
    if not isinstance(value, dict):
        _no_program(where, f"{name} holds no object")
    return value


def _refuse(where: str, member: str, why: str) -> NoReturn:
    raise ModelFileError(
        f"{where} could run code when it is loaded: in {member}, {why}. Export the model again with plain tensors and "
        "operators; or, if you trust the file, set allow_pickle: true and its sha256.",
        path=where, member=member,
    )


def _no_program(where: str, why: str) -> NoReturn:
    raise ModelFileError(
        f"{where} is no exported program: {why}. Write one with torch.export.save.", path=where
    )
