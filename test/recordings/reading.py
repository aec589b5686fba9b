# SPDX-License-Identifier: Apache-2.0
"""Recordings as a test reads them."""

import pytest

from vla_sd_ros.recordings import Inventory, Options, RecordingError, Recordings


def read(path, **options):
    """The recordings at a path, and each of their episodes with its images."""
    recordings = Recordings([path], Options(**options))
    return recordings, [(episode, list(episode.images)) for episode in recordings]


def refused(path, said, **options):
    """They cannot be read at all, and the sentence says this."""
    with pytest.raises(RecordingError, match=said):
        Inventory.of(Recordings([path], Options(**options)))


def skipped(path, name, said, **options):
    """One thing is skipped, and the sentence on it says this; the names of the episodes that are read are returned."""
    recordings = Recordings([path], Options(**options))
    read = []
    for episode in recordings:
        try:
            list(episode.images)
            read.append(episode.name)
        except RecordingError as error:
            recordings.skip(episode.name, str(error))
    assert [other for other in recordings.skipped if other.endswith(name)], recordings.skipped
    (sentence,) = (reason for other, reason in recordings.skipped.items() if other.endswith(name))
    pytest.fail(sentence) if said not in sentence else None
    assert "\n" not in sentence
    return read
