#!/usr/bin/env python3
"""Writes dashboards/overview.json. A panel is a line or two here; its place, ids and the rest of the JSON follow from it.

    python3 grafana/overview.py            writes the file
    python3 grafana/overview.py --check    fails when the file is not what this program writes

Every panel says what to do when it is red. Tests hold the panels to the metrics in the code, and ask a real Prometheus.
"""

import json
import pathlib
import sys

FILE = pathlib.Path(__file__).parent / "dashboards" / "overview.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELF = 'job=~"$job", instance=~"$instance"'
WINDOW = "$__rate_interval"
COLUMNS = 24


def pick(metric, *more):
    """The metric, of the chosen jobs and instances."""
    return f"{metric}{{{', '.join([SELF, *more])}}}"


def rate(metric, *more, by=()):
    return f"sum{group(by)} (rate({pick(metric, *more)}[{WINDOW}]))"


def quantile(q, histogram, *more, by=()):
    return f"histogram_quantile({q}, {rate(histogram + '_bucket', *more, by=('le', *by))})"


def mean(histogram, *more, by=()):
    return f"{rate(histogram + '_sum', *more, by=by)} / {rate(histogram + '_count', *more, by=by)}"


def group(labels):
    return f" by ({', '.join(labels)})" if labels else ""


def most(metric, *more, by=()):
    """What every instance says of one thing is counted once."""
    return f"max{group(by)} ({pick(metric, *more)})"


def total(metric, *more, by=()):
    return f"sum{group(by)} ({pick(metric, *more)})"


def quantiles(histogram, *more):
    return [(quantile(q, histogram, *more), f"p{round(float(q) * 100)}") for q in ("0.5", "0.95", "0.99")]


def panel(kind, title, unit, description, targets, w=6, h=7, red=None, amber=None, low=False, **options):
    """`red` and `amber` are thresholds; with `low`, below them is what is red."""
    steps = [{"color": "green" if not low else "red", "value": None}]
    if low:
        steps += [{"color": "orange", "value": red}] if amber is not None else []
        steps += [{"color": "green", "value": red if amber is None else amber}]
    else:
        steps += [{"color": "orange", "value": amber}] if amber is not None else []
        steps += [{"color": "red", "value": red}] if red is not None else []
    if kind == "stat":
        settings = {"colorMode": "background" if red is not None else "value", "graphMode": "area", "textMode": "auto",
                    "justifyMode": "auto", "orientation": "auto",
                    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
        custom = {}
    elif kind == "timeseries":
        settings = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                    "tooltip": {"mode": "multi", "sort": "desc"}}
        custom = {"drawStyle": "line", "fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": False,
                  "stacking": {"group": "A", "mode": "normal" if options.pop("stack", False) else "none"},
                  "thresholdsStyle": {"mode": "off" if red is None else "dashed"}}
    elif kind == "state-timeline":
        settings = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "mergeValues": True,
                    "rowHeight": 0.8, "showValue": "never", "tooltip": {"mode": "multi", "sort": "none"}}
        custom = {"fillOpacity": 80, "lineWidth": 0}
    else:
        assert kind == "heatmap"
        settings = {"calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
                    "legend": {"show": True}, "tooltip": {"mode": "single", "yHistogram": False},
                    "yAxis": {"unit": unit}}
        custom = {}
    form = "heatmap" if kind == "heatmap" else "time_series"
    return {
        "type": kind, "title": title, "description": description, "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "custom": custom, "color": {
            "mode": "palette-classic" if kind == "timeseries" else "thresholds"},
            "thresholds": {"mode": "absolute", "steps": steps}, **options}, "overrides": []},
        "gridPos": {"w": w, "h": h},
        "options": settings,
        "targets": [{"datasource": SOURCE, "editorMode": "code", "expr": expr, "format": form, "instant": False,
                     "legendFormat": legend, "range": True, "refId": chr(ord("A") + number)}
                    for number, (expr, legend) in enumerate(targets)],
    }


def graph(title, unit, description, targets, **more):
    return panel("timeseries", title, unit, description, targets, **more)


def stat(title, unit, description, expr, **more):
    return panel("stat", title, unit, description, [(expr, "")], w=3, h=4, **more)


HEADER = [
    stat("Ready instances", "short",
         "Daemons whose every check of /readyz passes. Red: none does, and nothing is processed. Look at 'Ready' in the last "
         "row for the check that fails, then at its server.",
         f"sum(min by (job, instance) ({pick('lockkeeper_ready')}))", red=1, low=True),
    stat("Jobs ended", "cps",
         "Jobs that came to an end per second, whatever the end. When it is 0 and 'Oldest job' grows, work has stopped: go "
         "through the rows from the top.",
         rate("lockkeeper_jobs_processed_total")),
    stat("p99 end to end", "s",
         "From XADD until the broker was told of the job's end, for 99 of 100 jobs. Red: the row 'Latency' tells whether jobs "
         "wait (add daemons) or batches are slow (look at locks and store).",
         quantile("0.99", "lockkeeper_job_end_to_end_seconds"), amber=1, red=5),
    stat("Oldest job", "s",
         "Age of the oldest job that is not finished, by the broker's clock. Red: work is late. Row 'Queue' says where it "
         "waits.",
         most("lockkeeper_queue_oldest_age_seconds"), amber=10, red=60),
    stat("Dead letters", "short",
         "Jobs that can never run. Red: see why with `lockkeeper dead-letters list`, mend the cause, requeue.",
         f"sum(max by (queue) ({pick('lockkeeper_dead_letter_length')}))", red=1),
    stat("Lock nodes to spare", "short",
         "How many more lock nodes may fail before no lock can be taken. Red: below 0, nothing is processed. Bring back the "
         "nodes that row 'Locks' shows as down.",
         f"min(sum by (job, instance) ({pick('lockkeeper_lock_node_up')}) - on (job, instance) "
         f"{pick('lockkeeper_lock_quorum_nodes')})", amber=1, red=0, low=True),
    stat("Lost jobs", "short",
         "Entries that somebody trimmed or deleted before they were run, in what is on screen. Red: a producer passes MAXLEN, "
         "or somebody uses XDEL; the jobs are gone and must be sent again.",
         f"sum(increase({pick('lockkeeper_queue_entries_lost_total')}[$__range])) + "
         f"sum(increase({pick('lockkeeper_claim_deleted_total')}[$__range]))", red=1, decimals=0),
    panel("stat", "Versions", "short",
          "Instances by version. More than one version for longer than a rolling restart: the deployment is stuck half way.",
          [(f"count by (version) ({pick('lockkeeper_build_info')})", "{{version}}")], w=3, h=4),
]

FLOW = [
    graph("Jobs ended by outcome", "cps",
          "applied and rejected are both answers. dead is a job that can never run, duplicate one that was sent or delivered "
          "again. All at 0 with a backlog: nothing is processed, see 'Locks' and 'Store'.",
          [(rate("lockkeeper_jobs_processed_total", by=("outcome",)), "{{outcome}}")], w=8, stack=True),
    graph("Jobs ended by type", "cps", "Which jobs make the load. `other` is every type without a handler: a producer sends "
          "what this version does not know.",
          [(rate("lockkeeper_jobs_processed_total", by=("job_type",)), "{{job_type}}")], w=8, stack=True),
    graph("Jobs taken in", "cps",
          "new comes from producers, claimed from another owner or from answers that were lost. claimed that does not stop: daemons "
          "die or freeze; look at 'Changes of owner'.",
          [(rate("lockkeeper_jobs_fetched_total", by=("source",)), "{{source}}")], w=8),
    graph("Dead-lettered by reason", "cps",
          "Should be 0. malformed, unknown_type and too_large are a producer's fault, max_deliveries a job that kills its "
          "process, panicked a bug: `lockkeeper dead-letters list --reason …`.",
          [(rate("lockkeeper_jobs_dead_lettered_total", by=("reason",)), "{{reason}}")]),
    graph("Put back by reason", "cps",
          "Jobs that left a batch without an end. lock_busy and behind: several daemons want the same aggregates; unavailable: "
          "lock nodes or database are away; contended: somebody writes past the locks.",
          [(rate("lockkeeper_jobs_put_back_total", by=("reason",)), "{{reason}}")]),
    graph("In hand", "short",
          "Jobs of this fleet that wait for a batch or are in one, and the batches. Waiting at its limit with few in flight: "
          "they wait for locks or for each other.",
          [(total("lockkeeper_jobs_waiting"), "waiting"), (total("lockkeeper_jobs_in_flight"), "in flight"),
           (total("lockkeeper_batches_in_flight"), "batches")]),
    graph("Trouble with replies and ids", "cps",
          "Replies that could not be written: the reply stream has another type or the broker was away. Reused ids: two jobs "
          "share an id, which is a producer's mistake; the second one had no effect.",
          [(rate("lockkeeper_reply_errors_total"), "replies failed"),
           (rate("lockkeeper_job_ids_reused_total"), "ids reused")]),
]

LATENCY = [
    graph("End to end", "s", "From XADD until the broker was told of the end. Red: compare with the two panels beside it.",
          quantiles("lockkeeper_job_end_to_end_seconds"), w=6, red=5),
    graph("Waiting in the queue", "s",
          "From XADD to the start of the batch that ended the job. Red: more comes than the database takes, or jobs of hot aggregates "
          "queue up behind each other.",
          quantiles("lockkeeper_job_queue_time_seconds"), w=6, red=5),
    graph("Running", "s",
          "From the start of the batch to its end: lock, load, decide, commit, acknowledge. Red: see 'One round of locking' "
          "and 'Transaction'.",
          quantiles("lockkeeper_job_duration_seconds"), w=6, red=1),
    panel("heatmap", "End to end, all jobs", "s",
          "Where the jobs lie. A second band far above the first is a group of jobs that wait for something.",
          [(f"sum by (le) (increase({pick('lockkeeper_job_end_to_end_seconds_bucket')}[{WINDOW}]))", "{{le}}")]),
    graph("Running by outcome, p99", "s", "Which ends take long. A slow dead or rejected is as slow for those behind it.",
          [(quantile("0.99", "lockkeeper_job_duration_seconds", by=("outcome",)), "{{outcome}}")]),
    graph("Longest-running batch", "s",
          "Red: a batch does not come to its end, and its aggregates wait with it. Look at the store and the locks, then at "
          "the log of that instance.",
          [(most("lockkeeper_job_oldest_running_seconds", by=("instance",)), "{{instance}}")], red=30),
    graph("Batches a job needed", "short",
          "1 is best. More: locks held elsewhere, or conflicts; see 'Put back by reason'.",
          [(quantile("0.99", "lockkeeper_job_attempts"), "p99"), (mean("lockkeeper_job_attempts"), "mean")]),
    graph("Batch and read size", "short",
          "Jobs per batch and per read. Small batches under load: jobs are barred by unfinished ones on the same aggregates.",
          [(mean("lockkeeper_batch_jobs"), "batch, mean"), (quantile("0.95", "lockkeeper_batch_jobs"), "batch, p95"),
           (mean("lockkeeper_fetch_batch_jobs"), "read, mean")]),
]

QUEUE = [
    graph("Length, lag, pending", "short",
          "length is all that is in the stream, lag what nobody has taken yet, pending what a daemon has in hand. lag that "
          "grows: more comes than the database takes, or nobody owns the stream. pending that stays: see the oldest ages.",
          [(most("lockkeeper_queue_length", by=("queue",)), "{{queue}} length"),
           (most("lockkeeper_queue_lag", by=("queue",)), "{{queue}} lag"),
           (most("lockkeeper_queue_pending", by=("queue",)), "{{queue}} pending")], w=8),
    graph("Oldest age", "s",
          "Red: jobs are late. undelivered is old: no daemon reads. pending is old: a daemon holds it and does not end it. overdue: nobody moves "
          "due jobs from the schedule back to the stream.",
          [(most("lockkeeper_queue_oldest_age_seconds", by=("queue", "state")), "{{queue}} {{state}}")], w=8, red=60),
    graph("Schedule and dead letters", "short",
          "Jobs that are not due, and jobs that can never run. A schedule that only grows is normal when jobs are for later.",
          [(most("lockkeeper_schedule_length", by=("queue",)), "{{queue}} scheduled"),
           (most("lockkeeper_dead_letter_length", by=("queue",)), "{{queue}} dead")], w=8),
    graph("To and from the schedule", "cps", "Jobs that were not due and moved to the schedule, and jobs that fell due.",
          [(rate("lockkeeper_jobs_scheduled_total"), "scheduled"), (rate("lockkeeper_jobs_promoted_total"), "fell due")], w=5),
    graph("Since the last read", "s",
          "Time since each daemon last read its streams. Red: its reader is stuck, paused or cannot reach the broker.",
          [(f"time() - {most('lockkeeper_queue_last_poll_timestamp_seconds', by=('instance',))}", "{{instance}}")], w=5, red=60),
    graph("Lag and age are known", "bool_yes_no",
          "lag, no: the broker cannot tell the lag (an unread entry was deleted), so trust the oldest age. It never recovers by "
          "itself; the age does not need it. age, no: a producer sets ids that are no times, so trust the lag.",
          [(f"min by (queue) ({pick('lockkeeper_queue_lag_known')})", "lag {{queue}}"),
           (f"min by (queue) ({pick('lockkeeper_queue_oldest_age_known')})", "age {{queue}}")], w=4),
    graph("Lost and recreated", "cps",
          "Should be 0. trimmed, deleted: jobs were lost, see 'Lost jobs'. groups: somebody deleted a stream or its group; it "
          "was created again at 0. orphaned: entries that were neither unread nor pending, so somebody else acknowledges or moves "
          "the group; they are run.",
          [(rate("lockkeeper_queue_entries_lost_total"), "trimmed"), (rate("lockkeeper_claim_deleted_total"), "deleted"),
           (rate("lockkeeper_queue_entries_orphaned_total"), "orphaned"),
           (rate("lockkeeper_queue_groups_recreated_total"), "groups")], w=5),
    panel("state-timeline", "Owner", "bool_yes_no",
          "Which daemon owns each stream and runs its jobs; the others stand by. No on all of them: nobody does, see "
          "`lockkeeper check`.",
          [(most("lockkeeper_stream_owned", by=("queue", "instance")), "{{queue}} {{instance}}")], w=6),
    graph("Changes of owner", "short",
          "free: it was handed over. silent: its owner died or froze. left: drained, quiet, or unfit, which reaches less than "
          "another daemon. lost: an owner that came back found another one. Many without a restart: look at the silence "
          "beside, and at the machines.",
          [(f"sum by (queue, from) (increase({pick('lockkeeper_fleet_takes_total')}[{WINDOW}]))", "{{queue}} {{from}}"),
           (f"sum by (queue, reason) (increase({pick('lockkeeper_fleet_releases_total')}[{WINDOW}]))", "{{queue}} left {{reason}}"),
           (f"sum by (queue) (increase({pick('lockkeeper_fleet_lost_total')}[{WINDOW}]))", "{{queue}} lost")], w=6),
    graph("Silence of the owner", "s",
          "Since the owner's last sign of life, as each daemon sees it. Near fleet.lease_ms: its machine or its way to the broker "
          "stutters, and the stream is about to be taken over.",
          [(most("lockkeeper_stream_silent_seconds", by=("queue", "instance")), "{{queue}} {{instance}}")], w=4),
    graph("Epoch", "short", "How often each stream was taken since it was made.",
          [(most("lockkeeper_stream_epoch", by=("queue",)), "{{queue}}")], w=2),
    graph("Paused", "bool_yes_no", "Whether somebody keeps the jobs of a stream from being started: `lockkeeper streams list` says who "
          "and why.",
          [(most("lockkeeper_stream_paused", by=("queue",)), "{{queue}}")], w=3),
    graph("Daemons that could work", "short", "Those that reach the database and a quorum of lock nodes. 1: a crash stops the work "
          "until something starts it again.",
          [(f"max({pick('lockkeeper_fleet_members')})", "daemons")], w=3),
    panel("state-timeline", "Role", "bool_yes_no",
          "What each daemon is: owner, standby, draining; late: an owner whose beats nobody answers, which begins nothing; lost: "
          "another one has taken its stream.",
          [(f"{most('lockkeeper_fleet_state', by=('instance', 'state'))} > 0", "{{instance}} {{state}}")], w=6),
    graph("Take-over", "s", "How long the takes of a moment took together, from asking for a stream to having it, and to the first "
          "commit: the pause of a hand-over. After a death the silence of fleet.lease_ms comes before it.",
          [(f"sum by (phase) (increase({pick('lockkeeper_fleet_take_duration_seconds_sum')}[{WINDOW}]))", "{{phase}}")], w=6),
    graph("Margin of the beats", "s", "How long before the owner could not have begun jobs any more its beats were answered. Near 0 it is "
          "about to lose the stream: look at the broker, its network and the machine.",
          [(quantile("0.01", "lockkeeper_fleet_beat_margin_seconds"), "p1"), (quantile("0.5", "lockkeeper_fleet_beat_margin_seconds"), "p50")],
          w=6),
    graph("Suspects", "short", "Jobs in hand that another owner may have begun. They look at receipts and count their starts; after a "
          "take-over they go to 0 within seconds.",
          [(most("lockkeeper_queue_suspects", by=("queue",)), "{{queue}}")], w=6),
    graph("Jobs of unknown type", "cps", "Jobs whose type or version the owner does not know. They wait for a daemon that does, and with "
          "them the jobs of their key.",
          [(rate("lockkeeper_jobs_unknown_total", by=("queue",)), "{{queue}}")], w=3),
    graph("Unknown types wait", "bool_yes_no", "Whether some wait now: start the newer program, or mend the producer.",
          [(most("lockkeeper_stream_unknown_types", by=("queue",)), "{{queue}}")], w=3),
    graph("Held", "short", "Jobs that wait behind a dead letter (stream.hold_after_dead): `lockkeeper dead-letters requeue` or `drop` it, and "
          "they go on in order.", [(most("lockkeeper_queue_held", by=("queue",)), "{{queue}}")], w=3),
    graph("Out of order", "cps", "Jobs that ran after younger ones of their stream had been taken in. More than 0: somebody else moves "
          "the group or reads from it.", [(rate("lockkeeper_queue_missed_total", by=("queue",)), "{{queue}}")], w=3),
    graph("Entry size", "bytes", "Size of a job's entry. Large ones fill the hand by weight, so fewer are read at a time.",
          [(quantile("0.5", "lockkeeper_job_payload_bytes"), "p50"),
           (quantile("0.99", "lockkeeper_job_payload_bytes"), "p99")], w=5),
]

LOCKS = [
    panel("state-timeline", "Nodes up", "bool_yes_no",
          "Whether each lock node is connected and grants. No: `lockkeeper check` says why; a majority of the others goes on.",
          [(f"min by (node) ({pick('lockkeeper_lock_node_up')})", "{{node}}")], red=1, low=True),
    graph("Nodes not asked", "bool_yes_no",
          "breaker: the node is probed and not asked, since it does not answer. kept out: it has restarted, and stays out "
          "until no lock that it forgot can live. Both end by themselves.",
          [(most("lockkeeper_lock_node_breaker_open", by=("node",)), "{{node}} breaker"),
           (most("lockkeeper_lock_node_quarantined", by=("node",)), "{{node}} kept out")]),
    graph("Requests per node by outcome", "cps",
          "held is normal with several daemons. timeout and error: that node is slow, cut off or refuses.",
          [(rate("lockkeeper_lock_node_requests_total", by=("node", "outcome")), "{{node}} {{outcome}}")]),
    graph("Request per node, p99", "s", "One node far above the others: its host or its network. All of them: ours.",
          [(quantile("0.99", "lockkeeper_lock_node_request_duration_seconds", by=("node", "op")), "{{node}} {{op}}")]),
    graph("Locks asked for by outcome", "cps",
          "Per aggregate. contended: another daemon or another service holds it. no_quorum: too few nodes answer, and nothing "
          "runs.",
          [(rate("lockkeeper_lock_attempts_total", by=("outcome",)), "{{outcome}}")]),
    graph("One round of locking", "s", "For a whole batch. Red: lock nodes are slow; see the request times per node.",
          quantiles("lockkeeper_lock_acquire_duration_seconds"), red=0.1),
    graph("Held, and margin at commit", "s",
          "How long batches hold their locks, and what is left of the locks' life when they commit. A margin near 0 means "
          "batches outlive their locks: raise lock.ttl_ms or make batches smaller.",
          [(quantile("0.99", "lockkeeper_lock_hold_seconds"), "held, p99"),
           (quantile("0.01", "lockkeeper_lock_commit_margin_seconds"), "margin, p1")]),
    graph("Locks held", "short", "Aggregates locked now. Follows the load; stuck above 0 without load is a batch that does "
          "not end.",
          [(total("lockkeeper_locks_held", by=("instance",)), "{{instance}}")]),
    graph("Lost, extended", "cps",
          "lost: a batch gave up before its commit, since its locks had run out or were not its own; nothing was written. "
          "extensions that fail come before it.",
          [(rate("lockkeeper_lock_lost_total", by=("reason",)), "lost {{reason}}"),
           (rate("lockkeeper_lock_extensions_total", by=("outcome",)), "extended {{outcome}}")], w=8),
    graph("Node restarts", "short", "Restarts of lock nodes that were noticed. A node that restarts again and again weakens "
          "every lock: find out why.",
          [(f"sum by (node) (increase({pick('lockkeeper_lock_node_restarts_total')}[{WINDOW}]))", "{{node}}")], w=8),
    graph("Quorum", "short", "Nodes that are up as each instance sees them, those configured, and those that must grant. up "
          "below quorum: nothing runs.",
          [(f"min({total('lockkeeper_lock_node_up', by=('job', 'instance'))})", "up"),
           (most("lockkeeper_lock_nodes"), "configured"), (most("lockkeeper_lock_quorum_nodes"), "quorum")], w=8),
]

STORE = [
    graph("Transaction, p99", "s",
          "Read models, receipts, events and COMMIT, in one packet. Red: the database's disk, or waiting for the sequence row "
          "behind another daemon.",
          [(quantile("0.99", "lockkeeper_store_append_duration_seconds", by=("outcome",)), "{{outcome}}")], red=1),
    graph("Events", "cps", "Events committed by type.",
          [(rate("lockkeeper_store_events_appended_total", by=("event_type",)), "{{event_type}}")], stack=True),
    graph("Events per transaction", "short", "Large is efficient. 0 to 1 under load: batches are small; see 'Batch and read "
          "size'.",
          [(mean("lockkeeper_store_append_events"), "mean"), (quantile("0.95", "lockkeeper_store_append_events"), "p95")]),
    graph("Head position", "cps", "How fast the log of the whole fleet grows, from the sequence row itself. It must agree with "
          "'Events'; when it is faster, somebody else appends.",
          [(f"deriv({most('lockkeeper_store_head_position')}[2m:])", "positions per second")]),
    graph("Conflicts and repeats", "cps",
          "Somebody else wrote in between, or the server chose us as a victim; the batch is decided again. Many: a writer that "
          "takes no locks, or locks that expire.",
          [(rate("lockkeeper_store_conflicts_total", by=("kind",)), "conflict {{kind}}"),
           (rate("lockkeeper_store_transaction_retries_total", by=("reason",)), "repeat {{reason}}")]),
    graph("Errors by class", "cps",
          "Should be 0. denied: a grant or password; read_only: a replica; too_many_connections; timeout: a frozen server or "
          "network. Jobs wait, none is burnt.",
          [(rate("lockkeeper_store_errors_total", by=("class",)), "{{class}}"),
           (rate("lockkeeper_store_commit_unknown_total"), "commit unknown"),
           (rate("lockkeeper_store_went_back_total"), "went back")]),
    graph("Connections", "short", "Used at max for long: raise database.max_connections, or find the slow statements.",
          [(total("lockkeeper_db_pool_connections", by=("state",)), "{{state}}"),
           (total("lockkeeper_db_pool_max_connections"), "max")]),
    graph("Waiting for a connection", "s", "Red: the pool is too small, or the database too slow. Time-outs are in cps beside.",
          [(quantile("0.99", "lockkeeper_db_pool_acquire_duration_seconds"), "p99")], w=3, red=0.1),
    graph("Pool time-outs", "cps", "Should be 0. Otherwise as for waiting.",
          [(rate("lockkeeper_db_pool_timeouts_total"), "time-outs")], w=3),
]

READ_MODELS = [
    graph("Batches that write", "cps",
          "Read models are written in the transaction of their events, so they cannot lag. One at 0 while its events flow: "
          "`lockkeeper demo` audits the fold.",
          [(rate("lockkeeper_projection_statement_bytes_count", by=("projection",)), "{{projection}}")], w=12, h=6),
    graph("Statements per batch", "bytes", "Size of a batch's statements for each read model. It is part of the packet that "
          "max_allowed_packet bounds.",
          [(mean("lockkeeper_projection_statement_bytes", by=("projection",)), "{{projection}}")], w=12, h=6),
    panel("state-timeline", "Builds that are written", "bool_yes_no", "Two of one read model cost each of its rows twice: "
          "`lockkeeper projections retire` lets one go. No: it was retired.",
          [(most("lockkeeper_projection_written", by=("projection",)), "{{projection}}")], w=12, h=6),
    graph("Generation", "short", "Number of what every transaction writes. A step: a build is written from then on, or no more.",
          [(most("lockkeeper_projection_generation"), "generation")], w=6, h=6),
    panel("state-timeline", "Never filled", "bool_yes_no", "Read models of this program without any rows. Yes: "
          "`lockkeeper projections rebuild`.",
          [(most("lockkeeper_projection_missing", by=("projection",)), "{{projection}}")], w=6, h=6),
]

SUBSCRIPTIONS = [
    graph("Behind", "s", "How long ago the first event was written that a reader of the log has not done. Red: nobody reads it, or it is "
          "stopped: `lockkeeper subscriptions list` says why.",
          [(most("lockkeeper_subscription_lag_seconds", by=("subscription",)), "{{subscription}}")], red=30, h=6),
    graph("Events behind", "short", "Events that it has not done. Right after a new one is added: all of the log.",
          [(most("lockkeeper_subscription_lag_events", by=("subscription",)), "{{subscription}}")], h=6),
    graph("Events done", "cps", "How fast each goes on; compare with Head position.",
          [(rate("lockkeeper_subscription_events_total", by=("subscription",)), "{{subscription}}")], w=4, h=6),
    graph("Position", "short", "How far each is; the log ends at Head position.",
          [(most("lockkeeper_subscription_position", by=("subscription",)), "{{subscription}}")], w=4, h=6),
    graph("Page, p99", "s", "Reading, writing and committing one page. Red: the database's disk, or large pages.",
          [(quantile("0.99", "lockkeeper_subscription_page_duration_seconds", by=("subscription",)), "{{subscription}}")], red=1, h=6),
    graph("Pages by outcome", "cps", "fenced: another daemon has it, normal at a change. refused: an event that cannot be read or written, "
          "which stops it after three tries. error: the database cannot be used.",
          [(rate("lockkeeper_subscription_pages_total", by=("subscription", "outcome")), "{{subscription}} {{outcome}}")], w=8, h=6),
    panel("state-timeline", "Readers", "bool_yes_no", "Which daemon reads each. No: on all of them while it is running, look whether "
          "subscriptions.run is true anywhere.",
          [(most("lockkeeper_subscription_owned", by=("subscription", "instance")), "{{subscription}} {{instance}}")], w=6, h=6),
    panel("state-timeline", "States", "bool_yes_no", "running, paused by an operator, or stopped before an event that it cannot get past.",
          [(f"{most('lockkeeper_subscription_state', by=('subscription', 'state'))} > 0", "{{subscription}} {{state}}")], w=6, h=6),
    graph("Parked", "short", "Events that a reader has gone past without doing them: `lockkeeper subscriptions parked list`. Should be 0.",
          [(most("lockkeeper_subscription_parked_events", by=("subscription",)), "{{subscription}}")], red=1, w=4, h=6),
    graph("Takes and holes", "short", "takes: changes of reader. holes: must be 0; the log lost rows in its midst.",
          [(f"sum by (subscription) (increase({pick('lockkeeper_subscription_takes_total')}[{WINDOW}]))", "{{subscription}}"),
           (f"sum (increase({pick('lockkeeper_log_gaps_total')}[{WINDOW}]))", "holes")], w=4, h=6),
]

PROCESS = [
    panel("state-timeline", "Ready", "bool_yes_no", "Each check of /readyz, the worst of all instances. No: that server is away "
          "or refuses; `curl …/readyz` says how.",
          [(f"min by (check) ({pick('lockkeeper_ready')})", "{{check}}")], red=1, low=True),
    graph("State", "short", "Instances by state. paused: somebody sent SIGTSTP; SIGCONT resumes. draining for longer than "
          "drain.timeout_ms: see the drain panels.",
          [(total("lockkeeper_state", by=("state",)), "{{state}}")], stack=True),
    graph("Intake", "short", "Instances by what their intake does with the streams. Anything but reading while jobs wait: "
          "follow that state's name to the server that is away.",
          [(total("lockkeeper_reading_state", by=("state",)), "{{state}}")], stack=True),
    graph("Standstill", "s", "How long an instance has had jobs in hand without committing or acknowledging any. More than half a "
          "minute: `curl …/readyz` and the log say what it waits for.",
          [(most("lockkeeper_stalled_seconds", by=("instance", "step")), "{{instance}} {{step}}")]),
    graph("Drain", "short", "Jobs that a drain still waits for, by instance, and what became of jobs. Only while one drains; "
          "the last log line has the summary.",
          [(most("lockkeeper_drain_in_flight_jobs", by=("instance",)), "{{instance}} waits for"),
           (f"sum by (outcome) (increase({pick('lockkeeper_drain_jobs_total')}[{WINDOW}]))", "{{outcome}}")]),
    graph("Time left to drain", "s", "Below 0: the drain has overrun, and what is in flight is handed to others.",
          [(f"{most('lockkeeper_drain_deadline_timestamp_seconds', by=('instance',))} - time()", "{{instance}}")]),
    graph("Memory", "bytes", "Resident memory. Grows with stream.prefetch_bytes and batch.cache_bytes, and then stays.",
          [(total("process_resident_memory_bytes", by=("instance",)), "{{instance}}")]),
    graph("CPU", "percentunit", "1 is one core. Near the number of cores: add daemons on other machines.",
          [(rate("process_cpu_seconds_total", by=("instance",)), "{{instance}}")]),
    graph("File descriptors", "percentunit", "Share of the limit. Red: connections leak, or the limit is too low.",
          [(f"max by (instance) ({pick('process_open_fds')} / {pick('process_max_fds')})", "{{instance}}")], red=0.8),
    graph("Retention", "cps", "Old receipts, dead letters and reply streams that are deleted, and looks that failed. Should be 0 "
          "failures; otherwise the log says why, and what is old stays.",
          [(rate("lockkeeper_retention_deleted_total", by=("what",)), "{{what}}"),
           (rate("lockkeeper_retention_failures_total"), "failed")]),
    graph("Since the last look for what is old", "s", "By the daemon of the fleet that took its turn; empty when [retention] "
          "keeps everything. Longer than retention.interval_ms: it fails, or nobody takes a turn.",
          [(f"time() - max({pick('lockkeeper_retention_last_done_timestamp_seconds')})", "last look")]),
    graph("Threads and uptime", "short", "Threads per instance. A changing start time is a restart, which is also marked in "
          "every panel.",
          [(total("process_threads", by=("instance",)), "{{instance}}")]),
    graph("Configuration", "bool_yes_no", "No: the last reload was refused and the old configuration is in force; the log "
          "names the key.",
          [(f"min by (instance) ({pick('lockkeeper_config_last_reload_successful')})", "{{instance}}")]),
    graph("Since the configuration was read", "s", "By start or reload. Differs between instances: some have not been "
          "reloaded.",
          [(f"time() - {most('lockkeeper_config_last_reload_timestamp_seconds', by=('instance',))}", "{{instance}}")], w=12),
    graph("Samples that failed", "cps", "Should be 0. What is sampled from that server is absent meanwhile, so its panels have "
          "gaps rather than old values.",
          [(rate("lockkeeper_metrics_collect_errors_total", by=("source",)), "{{source}}")], w=12),
]

ROWS = [("", HEADER), ("Flow", FLOW), ("Latency", LATENCY), ("Queue", QUEUE), ("Locks", LOCKS), ("Store", STORE),
        ("Read models", READ_MODELS), ("Subscriptions", SUBSCRIPTIONS), ("Process and drain", PROCESS)]


def laid_out():
    """Panels in rows of 24 columns, from left to right."""
    placed, y, ids = [], 0, 0
    for title, panels in ROWS:
        if title:
            ids += 1
            placed.append({"type": "row", "id": ids, "title": title, "collapsed": False, "panels": [],
                           "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}})
            y += 1
        x, height = 0, 0
        for each in panels:
            size = each["gridPos"]
            if x + size["w"] > COLUMNS:
                x, y, height = 0, y + height, 0
            ids += 1
            placed.append({"id": ids, **each, "gridPos": {"x": x, "y": y, **size}})
            x, height = x + size["w"], max(height, size["h"])
        y += height
    return placed


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": query,
            "query": {"qryType": 1, "query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True,
            "includeAll": True, "allValue": ".+", "hide": 0, "regex": "", "skipUrlSync": False, "options": [],
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}


def mark(name, color, expr, title):
    return {"name": name, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": color, "expr": expr,
            "step": "15s", "useValueForTime": True, "titleFormat": title, "textFormat": "{{instance}}"}


def dashboard():
    source = {"name": "datasource", "label": "Data Source", "type": "datasource", "query": "prometheus", "refresh": 1,
              "hide": 0, "regex": "", "multi": False, "includeAll": False, "skipUrlSync": False, "options": [],
              "current": {"selected": True, "text": "Prometheus", "value": "lockkeeper-prometheus"}}
    return {
        "id": None, "uid": "lockkeeper-overview", "title": "lockkeeper", "tags": ["lockkeeper"],
        "description": "Do jobs flow, where do they wait, who holds locks up, and what to do.",
        "schemaVersion": 41, "version": 1, "editable": False, "graphTooltip": 1, "liveNow": False, "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"}, "timepicker": {}, "timezone": "browser", "weekStart": "",
        "fiscalYearStartMonth": 0,
        "links": [{"title": "Alerts", "type": "link", "url": "/alerting/list", "targetBlank": False, "icon": "bell",
                   "tooltip": "", "tags": [], "asDropdown": False, "includeVars": False, "keepTime": False}],
        "templating": {"list": [
            source,
            variable("job", "job", "label_values(lockkeeper_build_info, job)"),
            variable("instance", "instance", 'label_values(lockkeeper_build_info{job=~"$job"}, instance)'),
        ]},
        "annotations": {"list": [
            mark("Restarts", "blue", f"{pick('process_start_time_seconds')} * 1000", "started"),
            mark("Drains", "orange", f"{pick('lockkeeper_drain_started_timestamp_seconds')} * 1000", "drains"),
        ]},
        "panels": laid_out(),
    }


def main():
    text = json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv[1:]:
        FILE.write_text(text)
    elif FILE.read_text() != text:
        sys.exit(f"{FILE} is not what {pathlib.Path(__file__).name} writes: run it")


if __name__ == "__main__":
    main()
