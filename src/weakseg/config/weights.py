"""Initial weights by name: the rows of `weights.yaml`, which say where their files lie and what these hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from weakseg.config.network import InitialWeights, Preprocessing, TrunkName
from weakseg.config.reading import explain, read_yaml
from weakseg.errors import WeaksegError
from weakseg.files import sha256_json
from weakseg.strict import Strict

CONVERSION = 1
"""Counted up when a converter makes something else of the same file: cached weights then get another name."""

Layout = Literal["torchvision", "features", "jcjohnson", "amdegroot", "openmmlab", "efficientnet"]
"""How a file names its tensors; `weakseg.model.weight_files` has a converter for each."""


class WeightsFile(Strict):
    """A file that holds the weights, and where it lies."""

    file: str = Field(
        pattern=r"^[\w.-]+(/[\w.-]+)*$",
        description="Its name; in a package, its path from the folder that holds it.",
    )
    layout: Layout = Field(description="How it names its tensors: which converter reads it.")
    checksum: str | None = Field(
        None,
        pattern=r"^(sha256:[0-9a-f]{64}|sha256-prefix:[0-9a-f]{8,63})$",
        description="Its SHA-256, or the first digits of that where no more is published; null: none is known, and the "
        "keys, shapes and values alone are checked.",
    )
    addresses: tuple[Annotated[str, Field(pattern="^https?://")], ...] = Field(
        (), description="Where it lies; the first that works is taken. Without any, somebody must have the file."
    )
    package: str | None = Field(
        None,
        pattern=r"^[\w.-]+==[\w.]+$",
        description="The package of PyPI, with its version, that it is in.",
    )


class KnownWeights(Strict):
    """Initial weights of a trunk: a row of `weights.yaml`."""

    trunk: TrunkName = Field(description="The trunk that they belong to.")
    files: tuple[WeightsFile, ...] = Field(
        min_length=1,
        description="Files that hold them; the first that can be had is taken. The first checksum decides results.",
    )
    preprocessing: Preprocessing = Field(description="The input convention of these weights.")
    licence: str = Field(description="Terms of use.")
    citation: str = Field(description="What to cite.")

    @model_validator(mode="after")
    def _first_is_known(self) -> "KnownWeights":
        if self.files[0].checksum is None:
            raise ValueError("the first file needs a checksum, by which the weights are known")
        return self

    def stored_as(self, name: str) -> str:
        """Name of the converted file in the cache; other files or another converter give another name."""
        first = self.files[0]
        return f"{name}-{sha256_json([CONVERSION, first.checksum, first.layout])[:8]}.safetensors"

    def of_study(self, name: str) -> InitialWeights:
        """What a study that says this name has: all that it needs without `weights.yaml`."""
        return InitialWeights(
            path=f"{{cache}}/weights/{self.stored_as(name)}",
            preprocessing=self.preprocessing,
            name=name,
            checksum=self.files[0].checksum,
        )


_NAMES = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


def load_weights(config_dir: str | Path = "config") -> dict[str, KnownWeights]:
    """Read the initial weights by name from `weights.yaml`.

    Raises:
        WeaksegError: no such file, not YAML, or a field that cannot be used; it is named.
    """
    path = Path(config_dir) / "weights.yaml"
    try:
        return TypeAdapter(dict[_NAMES, KnownWeights]).validate_python(read_yaml(path))
    except ValidationError as error:
        raise explain(path, error) from error


def named_weights(name: str, known: Mapping[str, KnownWeights], trunk: str | None = None) -> KnownWeights:
    """The weights of a name.

    Args:
        name: as `weights.yaml` has it.
        known: what `load_weights` gives.
        trunk: the trunk that they are wanted for.

    Raises:
        WeaksegError: no such name, or weights of another trunk.
    """
    if name not in known:
        raise WeaksegError(f"no initial weights named {name!r} in weights.yaml; there are {', '.join(known)}")
    if trunk is not None and known[name].trunk != trunk:
        fitting = [other for other, row in known.items() if row.trunk == trunk]
        raise WeaksegError(
            f"the initial weights {name} belong to the trunk {known[name].trunk}, not {trunk}; "
            + (f"for that there are {', '.join(fitting)}" if fitting else "there are none for that")
        )
    return known[name]
