"""`/xds`: what Envoy hides. Every resource with its verdict and why, streams, workers; what `mosn-xds status` shows."""

from typing import Any

from mosn_xds.admin.config_dump import CLUSTER, LISTENER, SECRET, timestamp
from mosn_xds.admin.view import AgentView, ResourceView
from mosn_xds.xds.messages import type_label


def page(agent: AgentView) -> dict[str, Any]:
    """The whole state of configuration as JSON values."""
    refusals = {(one.type_url, one.name): one for one in agent.worker_refusals()}
    resources = [resource(view) for view in agent.resources()]
    for entry in resources:
        if (entry["type_url"], entry["name"]) in refusals:
            entry["status"] = "refused by workers"
    unread, warnings = agent.bootstrap_findings
    return {
        "state": agent.state,
        "streams": [
            {"source": s.source, "target": s.target, "connected": s.connected, "last_error": s.last_error}
            for s in agent.streams()
        ],
        "workers": [
            {"slot": w.slot, "pid": w.pid, "generation": w.generation, "restarts": w.restarts, "state": w.state}
            for w in agent.workers()
        ],
        "worker_refusals": [
            {"type": one.type_name, "name": one.name, "reason": one.reason, "serving_last_good": one.serving}
            for one in refusals.values()
        ],
        "bootstrap": {
            "unread": list(unread),
            "warnings": list(warnings),
            "static": [
                {"type": type_label(url), "name": static.message.name}  # type: ignore[attr-defined]
                for url in (LISTENER, CLUSTER, SECRET)
                for static in agent.static_resources(url)
            ],
        },
        "resources": resources,
        "refused": sum(1 for entry in resources if entry.get("refusal")),
        "unread_fields": len(unread) + sum(len(entry.get("unread", ())) for entry in resources),
    }


def resource(view: ResourceView) -> dict[str, Any]:
    """One resource."""
    entry: dict[str, Any] = {
        "source": view.source,
        "type": type_label(view.type_url),
        "type_url": view.type_url,
        "name": view.name,
        "status": "warming" if view.warming and view.status == "acked" else view.status,
        "version": view.version,
        "updated": timestamp(view.updated_at) if view.updated_at is not None else None,
    }
    if view.refusal_reason:
        entry["refusal"] = {
            "reason": view.refusal_reason,
            "version": view.refusal_version,
            "at": timestamp(view.refusal_at),
            "serving": view.good_version if view.raw is not None else None,
        }
    if view.unread:
        entry["unread"] = list(view.unread)
    if view.warnings:
        entry["warnings"] = list(view.warnings)
    if view.history:
        entry["history"] = [
            {"version": version, "at": timestamp(at), "verdict": reason or "accepted"}
            for version, at, reason in view.history
        ]
    return entry
