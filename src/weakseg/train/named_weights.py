"""Initial weights by name: fetched or given, checked, converted, and kept in the cache for all studies."""

from collections.abc import Mapping
from pathlib import Path

from weakseg.config import KnownWeights, WeightsFile, load_weights, named_weights
from weakseg.data.initial_weights import given_file, published_files
from weakseg.data.transfer import PATIENCE, Patience, cache_folder, cache_writing, locked
from weakseg.errors import WeaksegError
from weakseg.files import sha256_file


def make_weights(
    name: str,
    config_dir: str | Path = "config",
    *,
    given: str | Path | None = None,
    cache: str | Path | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """The converted file of named weights in the cache, made if it is not there.

    Args:
        name: a row of `weights.yaml`.
        config_dir: where that lies.
        given: a file that somebody has; it is converted anew, whatever is in the cache.
        cache: see `weakseg.data.transfer.cache_folder`.
        patience: how long an address is given.

    Raises:
        WeaksegError: no such name, no file can be had, or none is what it should be; each is told with its reason.
    """
    known = named_weights(name, load_weights(config_dir))
    target = cache_folder(cache) / "weights" / known.stored_as(name)
    with cache_writing(target.parent), locked(target):
        if given is not None:
            _convert(name, known, given_file(known, given), Path(given), target)
        elif target.is_file():
            print(f"{name}: {target} is there")
        else:
            _convert_first(name, known, target, cache, patience)
    return target


def _convert_first(name: str, known: KnownWeights, target: Path, cache: str | Path | None, patience: Patience) -> None:
    """Convert the first of the weights' files that can be had and is what it should be."""
    failures = []
    for found in published_files(known, cache, patience):
        try:
            if isinstance(found, WeaksegError):
                raise found
            return _convert(name, known, *found, target)
        except WeaksegError as error:
            failures.append(str(error))
    raise WeaksegError(
        f"the initial weights {name} cannot be had.\n"
        + "\n".join(failures)
        + f"\nIf you have one of these files, say `weakseg weights {name} --from FILE`; docs/weights.md tells more"
    )


def _convert(name: str, known: KnownWeights, row: WeightsFile, source: Path, target: Path) -> None:
    from weakseg.model.weight_files import read_weights, write_weights  # torch: not for a plan of the workflow

    order = known.preprocessing.channel_order
    state = read_weights(source, known.trunk, row.layout, channel_order=order)
    facts = {
        "name": name,
        "trunk": known.trunk,
        "preprocessing": known.preprocessing.model_dump(mode="json"),
        "source": {"file": source.name, "sha256": sha256_file(source), "checksum": row.checksum, "layout": row.layout},
        "licence": known.licence,
        "citation": known.citation,
    }
    write_weights(target, state, facts)
    numbers = sum(value.numel() for value in state.values())
    print(f"{name}: {numbers:,} numbers of {source} ({row.layout}), checked, in {target}")


def table_of_weights(known: Mapping[str, KnownWeights]) -> str:
    """A line a name: trunk, where it comes from, and whether it is in the cache."""
    lines = []
    for name, row in known.items():
        there = (cache_folder() / "weights" / row.stored_as(name)).is_file()
        sources = [
            file.package or f"{len(file.addresses)} address(es)" for file in row.files if file.package or file.addresses
        ]
        lines.append(f"{name:26} {row.trunk:20} {'in the cache' if there else 'not fetched ':12}  {', '.join(sources)}")
    return "\n".join(lines)
