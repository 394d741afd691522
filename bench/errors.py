"""The one exception for a user's mistake: a clear line, no traceback, exit code 2."""

import difflib
from collections.abc import Iterable

MOST_NAMES = 40  # more would hide the message


class UserError(Exception):
    """What was asked, what is there, what to do."""


class NotInstalled(UserError):  # noqa: N818
    """A problem that needs an optional extra, which is not installed."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not there, with the nearest right ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or [n for n in names if name in n or n in name][:3]
    shown = names if len(names) <= MOST_NAMES else [*names[:MOST_NAMES], "..."]
    hint = f"did you mean {', '.join(near)}?" if near else f"there are: {', '.join(shown)}"
    return UserError(f"unknown {kind} '{name}': {hint}")
