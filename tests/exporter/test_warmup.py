from __future__ import annotations

from exporter.warmup import BATCH_SIZES
from serving import tensors, warmup


def test_a_version_is_warmed_by_its_own_rows_at_two_batch_sizes(exported):
    requests = [record.predict_log.request for record in warmup.records(exported.out)]
    assert [request.model_spec.signature_name for request in requests] == ["serving_default"] * 2
    for request, size in zip(requests, BATCH_SIZES, strict=True):
        sent = {name: tensors.decode(tensor, name) for name, tensor in request.inputs.items()}
        for name, rows in exported.trained.held_out.features.items():
            assert sent[name].tolist() == rows[:size].tolist()
