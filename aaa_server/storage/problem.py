"""What was asked of the database cannot be done; the text says what, and what to do."""

from __future__ import annotations


class Problem(Exception):
    """An expected refusal, in words for the person who asked."""


class NotFound(Problem):
    """There is no such thing, or none that the asker may see."""


class NotAllowed(Problem):
    """It is not for this viewer (see `storage.viewer`)."""


class Conflict(Problem):
    """It contradicts what is already there."""


class BadValue(Problem):
    """What was given cannot be right, whatever is there."""
