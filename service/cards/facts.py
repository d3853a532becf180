"""What a trained version tells of itself: the values of its card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from service.protocol import Order
    from serving.manifest import Manifest
    from trainer.run import Trained

_COLUMNS = 80  # rich takes no more where there is no terminal


def facts_of(order: Order, trained: Trained, manifest: Manifest) -> dict[str, Any]:
    """Gather the values of the card; named as in `card.md.j2`."""
    proven = [artifact for artifact in manifest.artifacts if artifact.get("parity")]
    how = order.spec.get("compile", {})
    return {
        "name": manifest.model,
        "job_id": manifest.job_id,
        "at": manifest.created_at,
        "seed": order.seed,
        "spec_digest": manifest.spec_digest,
        "data": order.spec["data"],
        "data_digest": manifest.data_digest,
        "parts": trained.parts,
        "anomalies": [str(anomaly) for anomaly in trained.anomalies],
        "summary": _summary(trained.model),
        "epochs": trained.epochs_run,
        "best_epoch": trained.best_epoch,
        "optimizer": _named(how.get("optimizer")),
        "loss": _named(how.get("loss")),
        "metric_names": sorted({name for part in trained.metrics.values() for name in part or {}}),
        "metrics": trained.metrics,
        "history": trained.history,
        "judgement": trained.judgement,
        "proof_rows": max(artifact["parity"]["rows"] for artifact in proven),
        "formats": [_format(artifact) for artifact in proven],
        "signatures": manifest.signature,
        "libraries": manifest.libraries,
    }


def _summary(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(line_length=_COLUMNS, print_fn=lambda text, **_: lines.append(text))
    return "\n".join(lines)


def _format(artifact: Mapping[str, Any]) -> dict[str, Any]:
    parity, latency = artifact["parity"], artifact["latency_ms"] or {}
    agreements = [
        output["argmax_agreement"]
        for output in parity["outputs"].values()
        if output["argmax_agreement"] is not None
    ]
    difference = parity["max_abs_diff"]
    return {
        "name": artifact["name"],
        "recipe": artifact["recipe"],
        "difference": math.inf if difference is None else difference,
        "agreement": f"{min(agreements):.1%}" if agreements else "-",
        "one": _latency(latency.get("1")),
        "many": _latency(latency.get("64")),
        "runtime": artifact["runtime"],
    }


def _latency(figures: Mapping[str, float] | None) -> str:
    return "-" if figures is None else f"{figures['median']:.3g} ms"


def _named(given: object) -> str:
    """Name what `compile` was given: a name, a description, several by output, or nothing."""
    return ", ".join(dict.fromkeys(_names(given))) or "the model's own"


def _names(given: object) -> Iterator[str]:
    if isinstance(given, str):
        yield given
    elif isinstance(given, Mapping):
        if "class_name" in given:
            yield str(given["class_name"])
        else:
            for each in given.values():
                yield from _names(each)
    elif isinstance(given, list | tuple):
        for each in given:
            yield from _names(each)
