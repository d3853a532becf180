from __future__ import annotations

import io

from rich.console import Console

from fitserve.progress import watch_job


def test_on_a_terminal_a_bar_shows_phase_epoch_and_metrics(api, client):
    api.add_training("job_1")
    screen = io.StringIO()

    job = watch_job(client, "job_1", console=Console(file=screen, force_terminal=True, width=160))

    assert job.status == "succeeded"
    shown = screen.getvalue()
    assert "epoch 2/2" in shown
    assert "loss 0.25" in shown
    assert "published digits version 3" in shown
