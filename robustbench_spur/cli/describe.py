"""``spurbench describe``: what a plugin is, read from its source."""

from __future__ import annotations

import argparse
from typing import Any

from robustbench_spur.cli.options import add_json, add_plugins, print_json
from robustbench_spur.types import SpurbenchError, nearest

TRAINING = "training"
"""What the settings that all methods share are described under."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("name", nargs="+", help="of a method, an evaluator, a split or a dataset; or training")
    add_json(parser)
    add_plugins(parser)


def main(options: argparse.Namespace) -> int:
    """Print what each named plugin is."""
    from robustbench_spur.registry import Registry

    registry = Registry(tuple(options.plugin))
    described = [training() if name == TRAINING else describe(find(name, registry)) for name in options.name]
    if options.json:
        print_json(described)
    else:
        for one in described:
            _print(one)
    return 0


def find(name: str, registry: Any) -> Any:
    """The plugin of a name, whatever its kind; a split gives its dataset.

    Raises:
        SpurbenchError: no such plugin.
    """
    from robustbench_spur.splitref import parse_split

    known: list[str] = []
    for kind in ("method", "evaluator", "dataset"):
        entries = registry.entries(kind)
        for plugin in entries:
            if plugin.name == name:
                return plugin
            known += [plugin.name, *(f"{plugin.name}/{split}" for split in plugin.literal("splits", {}))]
    try:
        return parse_split(name, registry).plugin
    except SpurbenchError:
        if "/" in name or "@" in name:
            raise
    raise SpurbenchError(f"Unknown name {name!r}. {nearest(name, [*known, TRAINING])}")


def describe(plugin: Any) -> dict[str, Any]:
    """All that the source states, as JSON values.

    Raises:
        SpurbenchError: several plugins have the name; all are told.
    """
    from robustbench_spur.parameters import Share

    if plugin.rivals:
        plugin.load()
    literal = plugin.literal
    out: dict[str, Any] = {
        "name": plugin.name,
        "kind": plugin.kind,
        "version": plugin.version,
        "origin": plugin.origin,
        "where": plugin.where,
        "status": "broken" if plugin.source is None else "ok",
        "reason": plugin.reason,
        "summary": literal("summary", ""),
        "source": literal("source", ""),
    }
    if plugin.kind == "method":
        from robustbench_spur.method import track_of

        needs = tuple(literal("needs", ()))
        out |= {"needs": needs, "track": track_of(needs), "every_group_in": tuple(literal("every_group_in", ()))}
        if wraps := literal("wraps", ""):
            out["wraps"] = f"the method named by {wraps}: it needs what that one needs, and is on its track"
        out["presets"] = literal("presets", {})
        out["tuned"] = _tuned(plugin)
    for name in ("splits", "aliases", "tied", "rhos", "default_rho", "licence", "partitions"):
        if plugin.source is not None and name in plugin.source.literals:
            out[name] = literal(name)
    metrics = literal("metrics", {})
    if isinstance(metrics, dict):
        out |= {"metrics": {name: getattr(m, "definition", str(m)) for name, m in metrics.items()}} if metrics else {}
    out["settings"] = [
        {
            "name": setting.name,
            "type": setting.type,
            "default": _share(setting.default) if isinstance(setting.default, Share) else setting.default,
            "range": setting.range,
            "search": repr(setting.search) if setting.search is not None else None,
            "doc": setting.doc,
        }
        for setting in (plugin.source.settings if plugin.source else [])
    ]
    out["doc"] = plugin.source.doc if plugin.source else ""
    return out


def _tuned(plugin: Any) -> dict[str, dict[str, Any]]:
    """What searches chose for a method, by split: settings, rule and track, without the trials."""
    from robustbench_spur.cli.options import home_of
    from robustbench_spur.tuning.presets import presets_of

    return {
        split: {
            "settings": preset.settings,
            "rule": preset.rule,
            "track": preset.track,
            "trials": len(preset.trials),
            "method_version": preset.method_version,
            "finished": preset.finished,
            "command": preset.command,
        }
        for split, preset in presets_of(plugin, home_of()).items()
    }


def training() -> dict[str, Any]:
    """The training budget, in the form of a plugin."""
    import inspect

    from robustbench_spur.parameters import Training

    words = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    settings = [
        {
            "name": name,
            "type": " | ".join(info["enum"]) if "enum" in info else info["type"],
            "default": info["default"],
            "range": ", ".join(f"{words[bound]} {info[bound]}" for bound in words if bound in info),
            "search": info.get("search"),
            "doc": info.get("description", ""),
        }
        for name, info in Training.model_json_schema()["properties"].items()
    ]
    return {
        "name": TRAINING,
        "kind": "settings",
        "version": None,
        "origin": "built-in",
        "where": f"{inspect.getsourcefile(Training)}:{inspect.getsourcelines(Training)[1]}",
        "status": "ok",
        "reason": "",
        "summary": "what all methods of a board share; a board sets its own values for every dataset",
        "source": "",
        "settings": settings,
        "doc": inspect.getdoc(Training) or "",
    }


def _share(share: Any) -> str:
    return f"{share.share:g} x {share.field}"


def _print(one: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"[bold]{escape(one['name'])}[/bold]  {one['kind']}, version {one['version']}, {escape(one['origin'])}"
    )
    console.print(escape(str(one["where"])))
    if one["reason"]:
        console.print(f"broken: {escape(one['reason'])}")
    console.print()
    console.print(escape(one["doc"]))
    for name in (
        "needs",
        "track",
        "wraps",
        "every_group_in",
        "presets",
        "splits",
        "aliases",
        "rhos",
        "partitions",
        "licence",
    ):
        if one.get(name):
            console.print(f"[bold]{name}[/bold]: {escape(_plain(one[name]))}")
    for split, tuned in one.get("tuned", {}).items():
        settings = ", ".join(f"{name}={value}" for name, value in tuned["settings"].items()) or "the defaults"
        console.print(
            f"[bold]tuned[/bold] for {escape(split)}: {escape(settings)}; chosen by {tuned['rule']} among"
            f" {tuned['trials']} trials, track {tuned['track']}. Use it: --preset tuned"
        )
    if one.get("metrics"):
        console.print("[bold]metrics[/bold]")
        for name, definition in one["metrics"].items():
            console.print(f"  {escape(name)}  {escape(definition)}")
    if one["settings"]:
        table = Table(title="settings", title_justify="left")
        for heading in ("name", "type", "default", "range", "search", "what it is"):
            table.add_column(heading, overflow="fold", no_wrap=heading == "name")
        for s in one["settings"]:
            table.add_row(*(escape(str(v if v is not None else "-")) for v in (*list(s.values())[:5], s["doc"])))
        Console(highlight=False).print(table)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {inner}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
