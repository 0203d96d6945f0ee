"""What several accounts may each have one of by the same name: rate groups, packages, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from aaa_server.storage.problem import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aaa_server.storage.viewer import Viewer


class Owned(Protocol):
    """A thing with a name and an owner, whose code is '' where the viewer may not know it."""

    @property
    def name(self) -> str: ...
    @property
    def owner_id(self) -> int: ...
    @property
    def owner_code(self) -> str: ...


Thing = TypeVar("Thing", bound=Owned)


def find_owned(
    things: Iterable[Thing], viewer: Viewer, name: str, *, owner: str, kind: str, listed_by: str
) -> Thing:
    """The one of `things` called `name` of `owner`; '' when the name alone says which.

    The viewer's own goes before another's of the same name. Raises `NotFound`, and
    `Conflict` when several owners have one. `kind` is what it is called there, `listed_by`
    the command that shows all.
    """
    found = [one for one in things if one.name == name and owner in ("", one.owner_code)]
    own = [one for one in found if one.owner_id == viewer.account_id]
    if own and not owner:
        found = own
    if not found:
        of_owner = f" of {owner}" if owner else ""
        raise NotFound(f"there is no {kind} {name!r}{of_owner}: `{listed_by}` shows what there is")
    if len(found) > 1:
        owners = ", ".join(sorted(one.owner_code for one in found))
        raise Conflict(f"several accounts have a {kind} {name!r}: say which by --owner ({owners})")
    return found[0]
