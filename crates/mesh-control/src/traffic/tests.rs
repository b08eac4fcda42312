//! Reports in, growth out.

use super::*;

fn key(id: &str) -> ProxyKey {
    ProxyKey {
        workload: "ml/client".parse().unwrap(),
        id: id.into(),
    }
}

fn series(service: &str, requests: u64) -> Series {
    Series {
        service: service.into(),
        requests,
        failures: requests / 10,
        in_flight: 3,
        latency: vec![0, requests],
        ..Series::default()
    }
}

fn report(log: &mut TrafficLog, id: &str, requests: u64, now: u64) {
    let report = Snapshot {
        series: vec![series("ml/fraud", requests)],
        ..Snapshot::default()
    };
    assert_eq!(log.report(&key(id), &report, now), 0);
}

fn requests(log: &mut TrafficLog, window: u64, now: u64) -> u64 {
    log.over(window, now).1.iter().map(|path| path.requests).sum()
}

#[test]
fn growth_is_counted_within_the_window() {
    let mut log = TrafficLog::default();
    // What it counted before it was known here is of no known time.
    report(&mut log, "1", 1_000, 100);
    assert_eq!(requests(&mut log, 10, 100), 0);
    for second in 1..=60 {
        report(&mut log, "1", 1_000 + second * 10, 100 + second);
    }
    assert_eq!(requests(&mut log, 10, 160), 100);
    assert_eq!(requests(&mut log, 5, 160), 50);
    assert_eq!(requests(&mut log, 300, 160), 600);
    let (seconds, paths) = log.over(300, 160);
    assert_eq!((seconds, paths.len()), (60.0, 1));
    assert_eq!(
        (paths[0].latency[1], paths[0].failures, paths[0].in_flight),
        (600, 60, 3)
    );
    assert_eq!(paths[0].latency.len(), BUCKETS);
    assert_eq!(log.over(0, 160).0, 10.0, "the default");
}

#[test]
fn what_is_kept_is_bounded_in_time() {
    let mut log = TrafficLog::default();
    for second in 0..2_000 {
        report(&mut log, "1", second, second);
    }
    let kept = log.proxies[&key("1")].series.values().next().unwrap();
    assert!(
        kept.steps.len() <= (MAX_WINDOW / COARSE + FINE + 4) as usize,
        "{}",
        kept.steps.len()
    );
    let all = requests(&mut log, 300, 1_999);
    assert!((290..=310).contains(&all), "{all}");
}

#[test]
fn what_is_kept_is_bounded_in_number() {
    let mut log = TrafficLog::default();
    let many = |from: usize| Snapshot {
        series: (from..from + 3_000)
            .map(|n| series(&format!("ml/s{n}"), 1))
            .collect(),
        ..Snapshot::default()
    };
    assert_eq!(log.report(&key("0"), &many(0), 1), 3_000 - MAX_SERIES);
    for id in 1..200 {
        log.report(&key(&id.to_string()), &many(0), 1);
    }
    assert!(log.proxies.len() <= MAX_OF_WORKLOAD);
    let total: usize = log.proxies.values().map(|proxy| proxy.series.len()).sum();
    assert!(total <= MAX_TOTAL);
    let long = Snapshot {
        series: vec![series(&"x".repeat(MAX_TEXT + 1), 1)],
        ..Snapshot::default()
    };
    assert_eq!(log.report(&key("199"), &long, 1), 1);
}

#[test]
fn a_new_start_counts_anew_and_the_silent_are_forgotten() {
    let mut log = TrafficLog::default();
    report(&mut log, "1", 0, 10);
    report(&mut log, "1", 50, 11);
    report(&mut log, "1", 5, 12);
    assert_eq!(requests(&mut log, 10, 12), 50, "counts that fall did not grow");
    report(&mut log, "2", 0, 13);
    report(&mut log, "2", 7, 14);
    assert_eq!(requests(&mut log, 10, 14), 57);
    let in_flight = |log: &mut TrafficLog, now| {
        log.over(300, now)
            .1
            .iter()
            .map(|path| path.in_flight)
            .sum::<i64>()
    };
    assert_eq!(in_flight(&mut log, 20), 6);
    assert_eq!(in_flight(&mut log, 30), 0, "who is silent has nothing in flight");
    log.forget(400);
    assert!(log.proxies.is_empty());
}
