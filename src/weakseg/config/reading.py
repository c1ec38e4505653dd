"""Reading YAML files into typed models; every fault names its file and the full path of the field."""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from weakseg.errors import WeaksegError
from weakseg.files import sha256_json

try:  # Every command and every plan reads the sheets: the parser in C takes a tenth of the time.
    from yaml import CSafeLoader as SafeLoader
except ImportError:
    from yaml import SafeLoader  # type: ignore[assignment]

DATA_ROOT_VARIABLE = "WEAKSEG_DATA_ROOT"
"""Environment variable that replaces `{data_root}` in configured paths."""

SEEDS_VARIABLE = "WEAKSEG_SEEDS"
"""Environment variable that says how many seeds every experiment has, in place of a study's own."""


MERGE = "tag:yaml.org,2002:merge"
"""What YAML takes the key `<<` for."""


class _UniqueKeys(SafeLoader):
    """YAML in which a key may stand once: the last of two would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE:
                continue  # refused or flattened by the loader itself
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands there twice; remove one", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        WeaksegError: no such file, not UTF-8, not YAML, or a key that stands there twice.
    """
    return parse_yaml(path, read_text(path))


def read_text(path: Path) -> str:
    """The text of a file of the configuration.

    Raises:
        WeaksegError: no such file, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise WeaksegError(f"{path}: no such file; name a study of config/studies or a YAML file") from error
    except UnicodeDecodeError as error:
        raise WeaksegError(f"{path}: not UTF-8 text ({error}); save it in this encoding") from error


def parse_yaml(path: Path, text: str) -> Any:
    """What a YAML file says that has this text.

    Raises:
        WeaksegError: not YAML, or a key that stands there twice.
    """
    try:
        return yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise WeaksegError(f"{path}: not valid YAML: {error}") from error


def explain(path: Path, error: ValidationError, prefix: str = "") -> WeaksegError:
    """A validation error by file and field; `prefix` is where in the file the model stands."""
    lines = [
        f"  {prefix}{'.'.join(str(p) for p in item['loc']) or '(file)'}: {item['msg']}"
        for item in error.errors()
        if item["type"] != "default_factory_not_called"  # a default that hangs on a field which is wrong itself
    ]
    return WeaksegError(f"{path}: {len(lines)} field(s) cannot be used:\n" + "\n".join(lines))


def resolve_path(configured: str, *, data_root: str | Path | None = None, results: str | Path | None = None) -> Path:
    """Replace `{data_root}` and `{results}` in a configured path.

    `data_root` defaults to the environment variable WEAKSEG_DATA_ROOT.

    Raises:
        WeaksegError: the path needs a data root and none is configured.
    """
    root = data_root or os.environ.get(DATA_ROOT_VARIABLE)
    if "{data_root}" in configured and not root:
        raise WeaksegError(
            f"path {configured!r} needs a data root: pass --config data_root=FOLDER to snakemake (--data-root FOLDER "
            f"to weakseg) or set {DATA_ROOT_VARIABLE}"
        )
    return Path(configured.replace("{data_root}", str(root)).replace("{results}", str(results)))


def config_hash(*models: BaseModel) -> str:
    """SHA-256 over the resolved values of models: two configurations with one hash give the same result."""
    return sha256_json([model.model_dump(mode="json") for model in models])
