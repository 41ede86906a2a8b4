"""The page for Prometheus: well-formed, by its conventions, and the dashboard that reads it."""

import json
import re
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from handlers.exposition import expose
from meters import DeliveryMeters, PipelineMeters, Readings, RequestMeters
from version import VERSION

DOCS = Path(__file__).parents[2] / "docs"


def readings() -> Readings:
    """Of a server in which everything has happened once."""
    requests, pipeline, deliveries = RequestMeters(), PipelineMeters(), DeliveryMeters()
    requests.observe("POST", "/api/dreams", 201, 0.02)
    pipeline.completed, pipeline.failed["corrupt"], pipeline.retried["timed_out"] = 7, 2, 3
    pipeline.render.observe(0.08)
    pipeline.store.observe(0.003)
    deliveries.delivered, deliveries.coalesced, deliveries.dropped = 100, 5, 1
    return Readings(
        requests=requests,
        pipeline=pipeline,
        rendering=2,
        storing=1,
        queued=4,
        oldest=1.5,
        workers_replaced={"crashed": 1},
        listeners=Counter(websocket=3),
        deliveries=deliveries,
        closes={4101: 2},
        received=123_456,
        wrong_passwords=9,
        parts={"database": True, "storage": False},
        free=10**9,
    )


def samples() -> dict[str, float]:
    """Each sample as `name{label="value"}`."""
    page, _ = expose(readings())
    found = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_every_reading_has_its_sample() -> None:
    """Under the name, the unit and the labels that the dashboard uses."""
    found = samples()
    for name, value in {
        f'dreamlog_build_info{{version="{VERSION}"}}': 1,
        'dreamlog_http_requests_total{method="POST",route="/api/dreams",status="201"}': 1,
        'dreamlog_http_request_duration_seconds_bucket{le="0.01",method="POST",route="/api/dreams"}': 0,
        'dreamlog_http_request_duration_seconds_bucket{le="0.025",method="POST",route="/api/dreams"}': 1,
        'dreamlog_http_request_duration_seconds_bucket{le="+Inf",method="POST",route="/api/dreams"}': 1,
        'dreamlog_http_request_duration_seconds_sum{method="POST",route="/api/dreams"}': 0.02,
        "dreamlog_upload_received_bytes_total{}": 123_456,
        "dreamlog_sign_ins_failed_total{}": 9,
        'dreamlog_images_total{code="",outcome="completed"}': 7,
        'dreamlog_images_total{code="corrupt",outcome="failed"}': 2,
        'dreamlog_image_retries_total{code="timed_out"}': 3,
        "dreamlog_image_render_duration_seconds_count{}": 1,
        "dreamlog_image_store_duration_seconds_sum{}": 0.003,
        'dreamlog_images_in_progress{step="render"}': 2,
        'dreamlog_images_in_progress{step="store"}': 1,
        "dreamlog_queue_images{}": 4,
        "dreamlog_queue_oldest_age_seconds{}": 1.5,
        'dreamlog_workers_replaced_total{reason="crashed"}': 1,
        'dreamlog_listeners{carrier="websocket"}': 3,
        'dreamlog_listeners{carrier="poll"}': 0,
        "dreamlog_messages_delivered_total{}": 100,
        "dreamlog_messages_coalesced_total{}": 5,
        "dreamlog_messages_dropped_total{}": 1,
        'dreamlog_websocket_closes_total{code="4101"}': 2,
        'dreamlog_up{part="database"}': 1,
        'dreamlog_up{part="storage"}': 0,
        "dreamlog_disk_free_bytes{}": 10**9,
    }.items():
        assert found[name] == value, name
    assert "process_resident_memory_bytes{}" in found


def test_names_follow_the_conventions_of_prometheus() -> None:
    """Snake case, base units, a help text that is no name, and no unit or suffix of another type."""
    page, _ = expose(readings())
    for family in text_string_to_metric_families(page.decode()):
        assert re.fullmatch(r"(dreamlog|process)(_[a-z0-9]+)+", family.name)
        assert len(family.documentation.split()) > 3, family.name
        assert not re.search(r"_(ms|milliseconds|kilobytes|mb|count|total)$", family.name)


def test_a_database_that_does_not_answer_has_no_queue() -> None:
    """No sample, which an alert can notice, is better than a wrong zero."""
    without = {name: getattr(readings(), name) for name in Readings.__slots__} | {"queued": None}
    page, _ = expose(Readings(**without))
    assert b"dreamlog_queue" not in page


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    """And shows each of them."""
    dashboard = json.loads((DOCS / "grafana.json").read_text("utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [each["query"]["query"] for each in dashboard["templating"]["list"] if isinstance(each["query"], dict)]
    named = {name for text in asked for name in re.findall(r"\b(?:dreamlog|process)_[a-z_]+", text)}
    there = {name.partition("{")[0] for name in samples()}
    assert named <= there
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in there if name.startswith("dreamlog_")}
    assert families == {name for name in shown if name.startswith("dreamlog_")}
