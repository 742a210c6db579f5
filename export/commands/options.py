"""What several commands take: keep ratios, options of policies."""

from __future__ import annotations

import json

import click


def keep_ratio_list(context: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
    """Parse keep ratios, comma between them."""
    del context
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"expected numbers such as 1.0,0.5, found {text!r}", param=parameter
        ) from error


def policy_options(
    context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, object]:
    """Parse repeated key=value options; a value is JSON, or text if it is not."""
    del context
    options: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"expected key=value, found {pair!r}", param=parameter)
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
    return options
