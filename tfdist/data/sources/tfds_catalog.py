"""TFDS data sets by name or folder: finding them, and downloading them on request. Loads no TensorFlow."""

import fnmatch
import os
import queue
import re
import socket
import sys
import threading
import urllib.parse
import urllib.request

from tfdist.process.errors import MissingFileError, MissingPackageError, TfdistError, UsageError

# The host that TFDS contacts first, for its checksums and metadata.
HOST = "storage.googleapis.com"
_NAME = re.compile(r"(?P<name>[a-zA-Z]\w*)(/(?P<config>[\w+.\-]+))?(:(?P<version>(\d+|\*)(\.(\d+|\*)){2}))?")


def parse_name(name):
    """Returns the parts of "name/config:version" as a dict; config and version may be None."""
    match = _NAME.fullmatch(name)
    if not match:
        raise UsageError(f"data: the name is {name!r}. Use name, name/config or name:1.*.*, as TFDS writes them.")
    return match.groupdict()


def names():
    """Returns the names of TFDS' own data sets; none where TFDS is not loaded yet, which takes a second."""
    loaded = sys.modules.get("tensorflow_datasets")
    return loaded.list_builders(with_community_datasets=False) if loaded else []


def locate(name, *, data_dir=None):
    """Finds a TFDS data set, prepared or not.

    Args:
        name: "name", "name/config", "name:version" or "name/config:version".
        data_dir: a folder with `name/config/version` below it, or the folder of one version; None for
            the default of TFDS.

    Returns:
        Its `tfds.core.DatasetBuilder`.

    Raises:
        ImportError: tensorflow-datasets is not installed.
        ValueError: TFDS does not know the name, or the folder holds another data set.
    """
    wanted = parse_name(name)
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
        if os.path.isfile(os.path.join(data_dir, "dataset_info.json")):
            return _open_folder(name, wanted, data_dir)
    return _make_builder(name, data_dir)


def check_prepared(name, builder, more=""):
    """Raises FileNotFoundError, which names the folder searched and ends with `more`, unless the data are there."""
    if not builder.is_prepared():
        raise MissingFileError(
            f"{name}: not found in {str(builder.data_dir)!r}. Give data_dir (--data_dir), the "
            f"folder that holds it, or download=True (--download).{more}"
        )


def find_builder(name, *, data_dir=None, download=False):
    """Finds a prepared TFDS data set; with `download`, downloads and prepares what is not there.

    Raises:
        FileNotFoundError: it is not there, and `download` is False.
        ConnectionError: it is not there, and there is no network.
    """
    builder = locate(name, data_dir=data_dir)
    if download and not builder.is_prepared():
        check_connection(HOST)
        builder.download_and_prepare()
    check_prepared(name, builder)
    return builder


def find_split(builder, split):
    """Returns the `SplitInfo` of "train", "train[:80%]" or "train+test".

    Raises:
        ValueError: there is no such split, or it has no rows.
    """
    try:
        info = builder.info.splits[split]
    except (ValueError, KeyError) as error:
        known = sorted(builder.info.splits)
        raise UsageError(
            f"{builder.name}: split is {split!r}, but there are {known}. Use one of these, or a "
            "part of it as in 'train[:80%]'."
        ) from error
    if not info.num_examples:
        raise UsageError(f"{builder.name}: split {split!r} has no rows. Use another split.")
    return info


class DownloadError(TfdistError, ConnectionError):
    """The host of a data set cannot be reached."""


def check_connection(host, port=443, timeout_seconds=5.0):
    """Raises ConnectionError unless the host, or the proxy in front of it, answers in time.

    TFDS itself would try for minutes.
    """
    proxy = urllib.parse.urlsplit(urllib.request.getproxies().get("https", ""))
    target = (proxy.hostname, proxy.port or port) if proxy.hostname else (host, port)
    answers = queue.SimpleQueue()

    def connect():
        try:
            socket.create_connection(target, timeout=timeout_seconds).close()
            answers.put(None)
        except OSError as error:
            answers.put(error)

    # A thread, because looking up a name has no time limit.
    threading.Thread(target=connect, daemon=True).start()
    try:
        error = answers.get(timeout=timeout_seconds)
    except queue.Empty:
        error = f"no answer within {timeout_seconds:g} s"
    if error:
        raise DownloadError(
            f"download: {target[0]}:{target[1]} cannot be reached ({error}). Check the network, or "
            "give data_dir (--data_dir), a folder with the prepared data."
        )


def _import_tfds():
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise MissingPackageError(
            f"data: TFDS names need tensorflow-datasets ({error}). Run: pip install "
            "tensorflow-datasets importlib_resources"
        ) from error
    return tfds


def _open_folder(name, wanted, data_dir):
    builder = _import_tfds().builder_from_directory(data_dir)
    config = f"{wanted['config']}/" if wanted["config"] else "*"
    pattern = f"{wanted['name']}/{config}{wanted['version'] or '*'}"
    if not fnmatch.fnmatch(builder.info.full_name, pattern):
        raise UsageError(
            f"{name}: {str(data_dir)!r} holds {builder.info.full_name!r}. Use that name, or another data_dir."
        )
    return builder


def _make_builder(name, data_dir):
    tfds = _import_tfds()
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        place = data_dir or tfds.core.constants.DATA_DIR
        raise UsageError(
            f"{name}: neither TFDS nor the folder {str(place)!r} has this data set, or not "
            "in this version. Check the spelling, or give data_dir (--data_dir)."
        ) from error
    except (AssertionError, ValueError) as error:  # no such version, no such config
        raise UsageError(f"{name}: {str(error).splitlines()[0]}") from error
