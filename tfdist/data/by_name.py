"""Data sets by name: what `load` accepts, and the checks that need no TensorFlow."""

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tfdist.data.sources import idx_files, tfds_catalog
from tfdist.options import DEFAULT_GLOBAL_BATCH
from tfdist.options.checks import is_switch
from tfdist.process.errors import MissingFileError, UsageError
from tfdist.process.nearest import did_you_mean

if TYPE_CHECKING:
    from tfdist.data.source import Source
    from tfdist.data.transforms import Transform

# Name → (module, function) that makes the source. Any other name is one of TFDS; `_find` says where it is looked for.
BUILT_IN = {
    "digits": ("tfdist.data.sources.arrays", "digits"),
    "idx": ("tfdist.data.sources.idx", "from_idx"),
    "images": ("tfdist.data.sources.images", "from_images"),
    "records": ("tfdist.data.sources.records", "from_records"),
    "synthetic": ("tfdist.data.sources.synthetic", "make_synthetic"),
}
_TFDS = ("tfdist.data.sources.tfds", "from_tfds")
_OF_FOLDERS = {"idx": "IDX files", "images": "images", "records": "record files"}
_NAMES_HERE = f"Names that come with tfdist: {', '.join(BUILT_IN)}."


def load(
    name: str,
    *,
    split: str = "train",
    global_batch: int = DEFAULT_GLOBAL_BATCH,
    seed: int = 0,
    shuffle: bool | None = None,
    drop_remainder: bool = False,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    transform: "Transform | None" = None,
    **options: Any,
) -> "Source":
    """Makes a source by its name.

    Args:
        name: "digits", "synthetic", "images" (a folder, one sub-folder per class), "idx" (IDX files), "records"
            (TFRecord files), or a name of TFDS, such as "cifar10" or `"imagenet2012:5.*.*"`. "mnist",
            "fashion_mnist", "kmnist" and "emnist/letters" etc. are also found as IDX files, in data_dir or, without
            it, in /usr/share/datasets.
        split: which part of the data; for TFDS and IDX also "train[:80%]".
        global_batch: rows of a step, over all replicas.
        seed: of the order, 0..2**32-1.
        shuffle: whether each epoch has an order of its own; None: only for the split "train".
        drop_remainder: leave out the last global batch if it is smaller.
        data_dir: folder of the data.
        download: whether TFDS may download what is not in data_dir.
        transform: None, or a function (batch, row_seeds) → batch, see `Source.map`.
        **options: options of the kind: those of `make_synthetic`, `from_images`, `from_idx`,
            `from_records`, `from_tfds`.

    Returns:
        A `Source`.

    Raises:
        ValueError, FileNotFoundError, ImportError: see `check_name`; ValueError also for an option
            that the kind does not have.

    Example:
        ```python
        from tfdist import data

        train = data.load("digits", global_batch=64)
        print(f"{train.rows} rows: {train.cardinality} steps of {train.global_batch}")
        ```
    """
    check_name(name, data_dir=data_dir, download=download)
    (module, function), found = _find(name, data_dir, download)
    make: Callable[..., Source] = getattr(importlib.import_module(module), function)
    _check_options(name, make, options, found)
    options |= found
    if shuffle is not None:
        options["shuffle"] = shuffle
    return make(
        split=split,
        global_batch=global_batch,
        seed=seed,
        drop_remainder=drop_remainder,
        transform=transform,
        **options,
    )


def _find(name: str, data_dir: str | os.PathLike[str] | None, download: bool) -> tuple[tuple[str, str], dict[str, Any]]:
    """Returns the (module, function) that makes a source, and the options that follow from where the data are."""
    found: dict[str, Any] = {} if data_dir is None else {"data_dir": os.path.expanduser(data_dir)}
    if name in BUILT_IN:
        return BUILT_IN[name], found
    if files := idx_files.locate(name, data_dir):
        return BUILT_IN["idx"], {"name": name, "data_dir": files[0], "part": files[1]}
    return _TFDS, {"name": name, **found, **({"download": True} if download else {})}


def names() -> tuple[str, ...]:
    """Returns the names that come with tfdist; `load` also takes every TFDS name.

    Example:
        ```python
        from tfdist import data

        assert "digits" in data.names()
        ```
    """
    return tuple(BUILT_IN)


def check_name(name: str, *, data_dir: str | os.PathLike[str] | None = None, download: bool = False) -> None:
    """Refuses what cannot be loaded, as far as that is known without TensorFlow or a download.

    Raises:
        ValueError: an invalid name, or data_dir or download where they have no meaning.
        FileNotFoundError: the folder, or the data set in it, does not exist.
        ImportError: a TFDS name, and tensorflow-datasets is not installed.

    Example:
        ```python
        from tfdist import data

        try:
            data.check_name("digits", data_dir="/datasets")
        except ValueError as error:
            print(error)  # … digits needs none. Leave it out.
        ```
    """
    if not isinstance(name, str):
        raise UsageError(f"data: the name is {name!r}. Use a name of TFDS, or one of {', '.join(BUILT_IN)}.")
    if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
        raise UsageError(f"{name}: data_dir is {data_dir!r}. Use a folder's path.")
    if not is_switch(download):
        raise UsageError(f"{name}: download is {download!r}. Use True or False.")
    if name in BUILT_IN:
        _check_built_in(name, data_dir, download)
    if data_dir is not None and "://" not in str(data_dir) and not download:
        folder = os.path.expanduser(data_dir)
        if not os.path.isdir(folder):
            raise MissingFileError(f"{name}: data_dir is {folder!r}: no such folder.")
        if name == "idx":
            idx_files.check_folder(folder)
    if name not in BUILT_IN and not idx_files.locate(name, data_dir):
        _check_tfds(name, data_dir, download)


def _check_built_in(name: str, data_dir: str | os.PathLike[str] | None, download: bool) -> None:
    if download:
        raise UsageError(f"{name}: download is for TFDS names. Leave it out.")
    if data_dir is not None and name not in _OF_FOLDERS:
        raise UsageError(f"{name}: data_dir is {str(data_dir)!r}, but {name} needs none. Leave it out.")
    if data_dir is None and name in ("idx", "images"):
        raise UsageError(f"{name}: there is no data_dir. Give the folder of {_OF_FOLDERS[name]} (--data_dir).")


def _check_tfds(name: str, data_dir: str | os.PathLike[str] | None, download: bool) -> None:
    try:
        builder = tfds_catalog.locate(name, data_dir=data_dir)
    except (ValueError, ImportError) as error:
        hint = did_you_mean(name, BUILT_IN) or did_you_mean(name, tfds_catalog.names())
        raise type(error)(f"{error} {_NAMES_HERE}{hint}{_other_places(name, data_dir)}") from error
    if not download:
        tfds_catalog.check_prepared(name, builder, more=_other_places(name, data_dir))


def _other_places(name: str, data_dir: str | os.PathLike[str] | None) -> str:
    """Returns where else a data set may be, as a sentence or an empty text."""
    if name not in idx_files.CLASS_NAMES:
        return ""
    package = idx_files.PACKAGES.get(name)
    debian = f" On Debian, run: apt install {package}; then leave out data_dir." if package else ""
    return f" There are no IDX files of it in {str(data_dir or idx_files.SYSTEM)!r} either.{debian}"


def _check_options(
    name: str, function: Callable[..., object], options: Mapping[str, Any], found: Mapping[str, Any]
) -> None:
    parameters = inspect.signature(function).parameters.values()
    known = {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD} - found.keys()
    if unknown := sorted(set(options) - known):
        of_load = inspect.signature(load).parameters.keys() - {"options"}
        hint = did_you_mean(unknown[0], sorted(known | of_load))
        raise UsageError(
            f"{name}: there is no option {', '.join(unknown)}. Beside those of every name, there "
            f"are: {', '.join(sorted(known - of_load)) or 'none'}.{hint}"
        )
