"""What a setting is called: the hyper-parameters that tell it from its neighbours, as the user wrote them."""

from typing import Any

import numpy as np

from results.schema import Group


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float | np.floating) else str(value)


def _written(group: Group, setting: int) -> dict[str, Any]:
    """Return the setting as described (`eta = 0.5/L`), or as resolved in the first of its lanes."""
    settings = group.description.get("settings") or []
    if 0 <= setting < len(settings):
        return dict(settings[setting])
    first = group.runs[group.runs["setting"] == setting].iloc[0]
    return {name.removeprefix("hp_"): first[name] for name in group.runs.columns if name.startswith("hp_")}


def labels(group: Group) -> dict[int, str]:
    """Return a label such as `eta=0.5/L` for each setting, of what differs between them (all of it in a single one)."""
    settings = {int(index): _written(group, int(index)) for index in dict.fromkeys(group.runs["setting"])}
    names = list(dict.fromkeys(name for written in settings.values() for name in written))
    differing = [name for name in names if len({str(written.get(name)) for written in settings.values()}) > 1]
    return {
        index: ", ".join(f"{name}={_text(written[name])}" for name in differing or names if name in written)
        for index, written in settings.items()
    }


def evenly(items: list[Any], most: int) -> list[Any]:
    """Return at most `most` of `items`, first and last included, at even distances."""
    if len(items) <= most:
        return items
    return [items[index] for index in np.unique(np.linspace(0, len(items) - 1, most).round().astype(int))]
