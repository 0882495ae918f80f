"""The loss curve of a run as a picture.

In: `metrics.jsonl` of a run folder. Out: `loss.png` beside it: training loss, smoothed, and validation.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from data.runs import LOSS_FILE, read_metrics

# A point's weight falls to a third over three points: logged losses are means over some steps already.
_MEMORY = 0.7


def smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean that does not lean towards its first value, as TensorBoard draws it."""
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean = _MEMORY * mean + (1 - _MEMORY) * value
        weight = _MEMORY * weight + (1 - _MEMORY)
        found.append(mean / weight)
    return found


def draw_loss(run: Path) -> None:
    """Draw the curve anew; nothing where nothing was logged yet."""
    # The figure alone: pyplot would keep it, and look for a screen.
    from matplotlib.figure import Figure

    metrics = list(read_metrics(run))
    train = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    validation = [(line["step"], line["eval_loss"]) for line in metrics if "eval_loss" in line]
    if not train:
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps, losses = zip(*train, strict=True)
    axes.plot(steps, losses, color="#9ecae1", linewidth=1, label="training")
    axes.plot(steps, smoothed(losses), color="#08519c", linewidth=2, label="training, smoothed")
    if validation:
        axes.plot(*zip(*validation, strict=True), color="#d94801", marker="o", markersize=4, label="validation")
    axes.set(xlabel="step", ylabel="loss per token", title=run.resolve().name)
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    partial = run / f".{LOSS_FILE}"
    partial.write_bytes(picture.getvalue())
    partial.replace(run / LOSS_FILE)
