//! The dashboard, the alerts and the runbook agree with the metrics in the code and with each other. What they show of a live
//! daemon is tested by `make observability`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use lockkeeper::metrics::{FAMILIES, Family, Kind, Unit};

use support::panels::{Dashboard, Panel, alert_expressions, family, file, text, uses};

/// Metrics that are on no panel and in no alert, and why.
const NOT_SHOWN: [(&str, &str); 0] = [];

/// What metrics-process gives, and whether a panel wants it.
const PROCESS: [(&str, bool); 8] = [
    ("process_cpu_seconds_total", true),
    ("process_open_fds", true),
    ("process_max_fds", true),
    ("process_resident_memory_bytes", true),
    ("process_start_time_seconds", true),
    ("process_threads", true),
    // Address space is not memory, and nobody limits it.
    ("process_virtual_memory_bytes", false),
    ("process_virtual_memory_max_bytes", false),
];

/// Targets that break a rule of the dashboard linter, with the reason.
const EXCEPTIONS: [(&str, &str); 1] =
    [("Lost jobs", "counts what is on screen, so its window is $__range and not $__rate_interval")];

fn is_excepted(panel: &Panel) -> bool {
    EXCEPTIONS.iter().any(|(title, _)| *title == panel.title)
}

fn known() -> BTreeMap<&'static str, &'static Family> {
    FAMILIES.iter().map(|family| (family.name, family)).collect()
}

/// Every expression that somebody looks at, with where it stands.
fn expressions(dashboard: &Dashboard) -> Vec<(String, String)> {
    let panels = dashboard.targets().map(|(panel, target)| (format!("panel {}", panel.title), target.expr.clone()));
    let marks = dashboard.annotations.list.iter().map(|mark| (format!("annotation {}", mark.name), mark.expr.clone()));
    let alerts = alert_expressions().into_iter().map(|(name, expr)| (format!("alert {name}"), expr));
    panels.chain(marks).chain(alerts).collect()
}

#[test]
fn every_metric_is_shown_or_excused_and_nothing_is_shown_that_does_not_exist() {
    let dashboard = Dashboard::load();
    let expressions = expressions(&dashboard);
    let mut shown = BTreeSet::new();
    for (place, expr) in &expressions {
        assert!(!uses(expr).is_empty() || expr.contains("up{"), "{place} names no metric: {expr}");
        shown.extend(uses(expr).iter().map(|metric| family(metric.name).to_owned()));
    }
    let excused = NOT_SHOWN.iter().map(|(name, _)| (*name).to_owned());
    let process = PROCESS.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| (*name).to_owned());
    let registered: BTreeSet<String> = known().into_keys().map(str::to_owned).chain(process).collect();
    let accounted: BTreeSet<String> = shown.iter().cloned().chain(excused).collect();
    let unknown: Vec<_> = accounted.difference(&registered).collect();
    let forgotten: Vec<_> = registered.difference(&accounted).collect();
    assert!(unknown.is_empty(), "shown or excused, but not exported: {unknown:?}");
    assert!(forgotten.is_empty(), "exported, but on no panel, in no alert and not excused: {forgotten:?}");
    for (name, _) in NOT_SHOWN {
        assert!(!shown.contains(name), "{name} is excused and shown");
    }
    for family in FAMILIES {
        let name = family.name;
        assert!(!["_bucket", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix)), "{name}");
    }
}

#[test]
fn series_are_used_with_labels_that_they_have_and_counters_inside_a_rate() {
    let known = known();
    let dashboard = Dashboard::load();
    for (place, expr) in expressions(&dashboard) {
        for metric in uses(&expr) {
            let Some(family) = known.get(family(metric.name)) else { continue };
            let suffix = &metric.name[family.name.len()..];
            let is_histogram = matches!(family.kind, Kind::Histogram(_));
            assert_eq!(is_histogram, !suffix.is_empty(), "{place}: {} has no such series", metric.name);
            for (label, _) in metric.matchers.split(", ").filter_map(|one| one.split_once(['=', '!'])) {
                let has = family.labels.contains(&label) || ["job", "instance"].contains(&label);
                assert!(has, "{place}: {} has no label {label}", family.name);
            }
            let rated = ["rate(", "irate(", "increase("].iter().any(|function| metric.before.ends_with(function));
            assert_eq!(rated, family.kind != Kind::Gauge, "{place}: {} in {expr}", metric.name);
        }
    }
}

#[test]
fn the_dashboard_keeps_the_rules_of_the_linter() {
    let dashboard = Dashboard::load();
    assert_eq!((dashboard.schema_version, dashboard.id, dashboard.editable), (41, None, false));
    assert!(!dashboard.uid.is_empty() && !text("grafana/dashboards/overview.json").contains("__inputs"));
    let [source, job, instance] = &dashboard.templating.list[..] else { panic!("three variables") };
    assert_eq!((&*source.name, &*source.label, &*source.kind), ("datasource", "Data Source", "datasource"));
    for (variable, name) in [(job, "job"), (instance, "instance")] {
        assert_eq!((&*variable.name, &*variable.label, &*variable.kind), (name, name, "query"));
        assert_eq!((variable.multi, &*variable.all_value, variable.refresh), (true, ".+", 2), "{name}");
        assert_eq!(variable.datasource["uid"], "${datasource}", "{name}");
        assert!(variable.definition.starts_with("label_values(") && variable.definition.ends_with(&format!("{name})")));
    }
    for mark in &dashboard.annotations.list {
        assert!(mark.enable && mark.datasource["uid"] == "${datasource}", "{}", mark.name);
    }
    for panel in dashboard.shown() {
        let title = &panel.title;
        assert!(!title.is_empty() && panel.description.len() > 20 && panel.description.ends_with('.'), "{title}");
        assert!(panel.datasource["uid"] == "${datasource}", "{title} has another datasource");
        assert!(["cps", "s", "bytes", "short", "bool_yes_no", "percentunit"].contains(&panel.unit()), "{title}");
        assert!(!panel.targets.is_empty(), "{title} shows nothing");
        let has_red = panel.field_config["defaults"]["thresholds"]["steps"].to_string().contains("red");
        let says_what_to_do = ["Red: ", "Should be", "No: "].iter().any(|words| panel.description.contains(words));
        assert!(!has_red || says_what_to_do, "{title} can be red and does not say what to do then");
    }
    for (panel, target) in dashboard.targets() {
        assert!(target.datasource["uid"] == "${datasource}", "{}", panel.title);
        for metric in uses(&target.expr) {
            let matchers = metric.matchers;
            let chosen = matchers.contains(r#"job=~"$job""#) && matchers.contains(r#"instance=~"$instance""#);
            assert!(chosen, "{}: {} is not that of the chosen instances", panel.title, metric.name);
        }
        let windows = target.expr.matches("rate(").count() + target.expr.matches("increase(").count();
        let right = target.expr.matches("[$__rate_interval]").count();
        assert!(windows == right || is_excepted(panel), "{}: {}", panel.title, target.expr);
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard = Dashboard::load();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeMap::new());
    for panel in &dashboard.panels {
        assert!(ids.insert(panel.id), "{} has the id of another panel", panel.title);
        assert!(!panel.collapsed && panel.panels.is_empty(), "{} hides panels", panel.title);
        let place = panel.grid_pos;
        assert!(place.w > 0 && place.h > 0 && place.x + place.w <= 24, "{}: {place:?}", panel.title);
        for cell in (place.x..place.x + place.w).flat_map(|x| (place.y..place.y + place.h).map(move |y| (x, y))) {
            if let Some(other) = taken.insert(cell, &panel.title) {
                panic!("{} lies on {other}", panel.title);
            }
        }
    }
}

#[test]
fn a_panels_unit_is_that_of_its_metrics() {
    let known = known();
    for (panel, target) in Dashboard::load().targets() {
        let expr = &target.expr;
        let units: BTreeSet<&str> = uses(expr)
            .iter()
            .filter_map(|metric| {
                let family = known.get(family(metric.name))?;
                let counted = metric.name.ends_with("_count") && !expr.contains("_sum{");
                Some(match (family.kind, family.unit) {
                    _ if counted || metric.before.ends_with("deriv(max (") => "cps",
                    (Kind::Counter, _) if metric.before.ends_with("rate(") => "cps",
                    (Kind::Counter, _) | (_, Unit::Count) => "short",
                    (_, Unit::Seconds | Unit::UnixSeconds) => "s",
                    (_, Unit::Bytes) => "bytes",
                    // A flag of many is counted.
                    (_, Unit::Flag) if panel.unit() == "short" => "short",
                    (_, Unit::Flag) => "bool_yes_no",
                })
            })
            .collect();
        let of_process = units.is_empty() && uses(expr).iter().any(|metric| metric.name.starts_with("process_"));
        assert!(of_process || units == BTreeSet::from([panel.unit()]), "{}: {units:?}, {expr}", panel.title);
    }
}

#[test]
fn the_dashboard_is_what_its_program_writes() {
    let check = Command::new("python3").arg(file("grafana/overview.py")).arg("--check").output().expect("python3 runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn each_alert_has_a_section_in_the_runbook_and_each_section_an_alert() {
    let alerts: Vec<String> = alert_expressions().into_iter().map(|(name, _)| name).collect();
    let runbook = text("docs/runbook.md");
    let sections: Vec<&str> = runbook.split("\n## ").skip(1).collect();
    let titles: Vec<&str> = sections.iter().map(|section| section.lines().next().unwrap_or_default()).collect();
    assert_eq!(alerts, titles, "alerts and sections, in the same order");
    for (section, title) in sections.iter().zip(titles) {
        for part in ["**Means** ", "**Confirm** ", "**Do** ", "**Do not** "] {
            assert_eq!(section.matches(part).count(), 1, "{title}: {part}");
        }
    }
    let rules = text("grafana/alerts/lockkeeper.yml");
    for alert in &alerts {
        assert!(alert.starts_with("Lockkeeper"), "{alert}");
        let link = format!("runbook_url: docs/runbook.md#{}\n", alert.to_lowercase());
        assert_eq!(rules.matches(&link).count(), 1, "{alert}: {link}");
        let tested = text("grafana/alerts/lockkeeper_test.yml").matches(&format!("alertname: {alert}\n")).count();
        assert!(tested >= 2, "{alert} is tested before its time and at its time");
    }
    for severity in rules.lines().filter_map(|line| line.trim().strip_prefix("severity: ")) {
        assert!(["critical", "warning", "info"].contains(&severity), "{severity}");
    }
}

#[test]
fn compose_mounts_files_that_exist() {
    let compose = text("docker-compose.yml");
    let mounts = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.strip_suffix(":ro"));
    let mounts: BTreeMap<&str, &str> = mounts.filter_map(|mount| mount.split_once(':')).collect();
    for source in mounts.keys() {
        assert!(file(source).exists(), "{source} is mounted and does not exist");
    }
    let home = "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH: ";
    let home = compose.lines().find_map(|line| line.trim().strip_prefix(home)).expect("a home page");
    let folder = mounts["grafana/dashboards"];
    assert!(file("grafana/dashboards").join(home.strip_prefix(&format!("{folder}/")).expect("mounted")).exists());
    let provider = text("grafana/provisioning/dashboards/lockkeeper.yml");
    assert!(provider.contains(&format!("path: {folder}\n")));
    assert!(provider.contains("allowUiUpdates: false") && provider.contains("disableDeletion: true"));
    let source = text("grafana/provisioning/datasources/prometheus.yml");
    let variable = &Dashboard::load().templating.list[0];
    assert_eq!(variable.name, "datasource");
    assert!(source.contains("uid: lockkeeper-prometheus\n") && source.contains("url: http://prometheus:9090\n"));
    let prometheus = text("grafana/prometheus/prometheus.yml");
    assert!(prometheus.contains(&format!("{}/lockkeeper.yml", mounts["grafana/alerts"])));
    assert!(prometheus.contains("job_name: lockkeeper\n") && prometheus.contains("\"lockkeeper:9464\""));
}
