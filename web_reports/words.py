"""The words of documents in the reader's language. English is what the files themselves say.

`words.toml` has a line for each text: what it is in the other languages, in the order of
`LANGUAGES`. A test sees to it that no title of a report is missing.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

LANGUAGES = ("de", "es", "fr")
_FILE = Path(__file__).with_name("words.toml")


@cache
def _words() -> dict[str, dict[str, str]]:
    lines = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {
        language: {text: others[place] for text, others in lines.items()}
        for place, language in enumerate(LANGUAGES)
    }


def spoken(language: str) -> str:
    """The language that a reader of `language` (BCP 47) gets: its own, or English."""
    own = language.partition("-")[0]
    return own if own in LANGUAGES else "en"


def translate(text: str, language: str) -> str:
    """`text` in the reader's language; as it stands where nobody has translated it."""
    return _words().get(spoken(language), {}).get(text, text)


def known(text: str) -> bool:
    """Whether the text has its line."""
    return text in _words()[LANGUAGES[0]]
