"""`otel`: each run that changes hosts, as a trace for an OTLP endpoint. The run is a span, and so is each of its phases."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from percore import __version__
from percore.deploy import schema
from percore.deploy.masking import REDACTOR
from percore.deploy.report import ReportPhase
from percore.deploy.schema import VariableSource, read_variable
from percore.errors import PercoreError, UsageError

_SECONDS = 10
_ADDRESS = schema.matching(
    "an address such as http://collector:4318", lambda text: text.startswith(("http://", "https://"))
)
_OTEL: schema.Kind[dict[str, Any]] = schema.defaulting(schema.MAPPING, {})


@dataclass(frozen=True)
class Otel:
    """`endpoint` without /v1/traces, as OTEL_EXPORTER_OTLP_ENDPOINT has it."""

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).hostname or "the endpoint"


def read_otel(variables: VariableSource) -> Otel | None:
    """Raises UsageError for values that make no sense, and where the library is missing."""
    where = variables.where("otel")
    written = read_variable(variables, "otel", _OTEL)
    if not written:
        return None
    schema.require_keys(written, ("endpoint", "headers"), "otel", where)
    endpoint = _ADDRESS.read(written.get("endpoint"), "variable 'otel.endpoint'", where)
    headers = schema.MAPPING.read(written.get("headers", {}), "variable 'otel.headers'", where)
    REDACTOR.hide(headers)
    if importlib.util.find_spec("opentelemetry") is None:
        raise UsageError("otel needs the OpenTelemetry library", where=where, next="pip install 'percore[otel]'")
    return Otel(endpoint.rstrip("/"), {str(name): str(value) for name, value in headers.items()})


def export(
    otel: Otel,
    name: str,
    attributes: Mapping[str, Any],
    started: int,
    phases: Sequence[ReportPhase],
    error: PercoreError | None,
) -> str:
    """What failed; empty when nothing did. `started` in nanoseconds since 1970."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import Status, StatusCode, set_span_in_context

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    collected = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "percore", "service.version": __version__}))
    provider.add_span_processor(SimpleSpanProcessor(collected))
    tracer = provider.get_tracer("percore")
    now = time.time_ns()
    root = tracer.start_span(name, start_time=started, attributes={**attributes, **_result(error)})
    ends = [phase.started for phase in phases[1:]] + [now] * bool(phases)
    for phase, end in zip(phases, ends, strict=True):
        span = tracer.start_span(
            phase.name, set_span_in_context(root), start_time=phase.started, attributes=_of_phase(phase)
        )
        if error and end == now:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)
    if error:
        root.set_status(Status(StatusCode.ERROR, REDACTOR.text(str(error))))
    root.end(now)
    exporter = OTLPSpanExporter(f"{otel.endpoint}/v1/traces", headers=dict(otel.headers), timeout=_SECONDS)
    result = exporter.export(collected.get_finished_spans())
    return "" if result is SpanExportResult.SUCCESS else "it did not take the trace"


def _result(error: PercoreError | None) -> dict[str, str]:
    return {"cicd.pipeline.result": "failure" if error else "success"}


def _of_phase(phase: ReportPhase) -> dict[str, str]:
    return {"cicd.pipeline.task.name": phase.name, "percore.phase": REDACTOR.text(phase.title)}
