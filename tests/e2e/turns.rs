//! Whose turn it is: connectors that publish different routes share those that both publish, and no other; and what
//! happens when the one whose turn it is cannot reach its upstream.

use crate::harness::{Lab, Tls, until};
use std::collections::BTreeMap;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
/// Requests for each path.
const EACH: usize = 200;

#[test]
fn each_route_goes_in_turn_to_those_that_published_it() {
    let lab = Lab::plan()
        .shards(2, 1)
        .connectors(3)
        .without_connector()
        .start();
    // `/t/` by cp-1 and cp-2; `/cert/` of the lab's file becomes a route of one's own.
    let open = "path = \"/cert/\"\nupstream = [\"http://UPSTREAM\"]\nauth = \"certificate\"";
    let upstream = format!("127.0.0.1:{}", lab.upstream.port);
    let open = open.replace("UPSTREAM", &upstream);
    let own = |path: &str| {
        open.replace("/cert/", path)
            .replace("\"certificate\"", "\"none\"")
    };
    let mut members = [
        lab.start_member(1, &[(&open, &own("/one/"))]),
        lab.start_member(2, &[(&open, &own("/two/"))]),
        lab.start_member(3, &[(&open, &own("/three/")), ("\"/t/\"", "\"/both/\"")]),
    ];
    members.iter_mut().for_each(|member| member.wait_ready());

    // In an order that would meet a common turn at the same place each time.
    let mut clients: Vec<_> = (0..6).map(|_| Tls::connect(&lab)).collect();
    let count = clients.len();
    for n in 0..EACH {
        let client = &mut clients[n % count];
        for path in ["/t/x", "/three/x", "/one/x", "/two/x", "/both/x"] {
            assert_eq!(client.get(path).status, 200, "{path}");
        }
    }
    let served = until("all is in the access log", PATIENCE, || {
        let mut served = BTreeMap::<_, usize>::new();
        for line in lab.gateway.log().lines() {
            if let Ok(line) = serde_json::from_str::<serde_json::Value>(line)
                && let (Some(path), Some(by)) = (line["path"].as_str(), line["connector"].as_str())
            {
                *served.entry((path.to_owned(), by.to_owned())).or_default() += 1;
            }
        }
        (served.values().sum::<usize>() == 5 * EACH).then_some(served)
    });
    let of = |path: &str, by: &str| served.get(&(path.into(), by.into())).copied().unwrap_or(0);
    for (path, by) in [
        ("/one/x", "cp-1"),
        ("/two/x", "cp-2"),
        ("/three/x", "cp-3"),
        ("/both/x", "cp-3"),
    ] {
        assert_eq!(of(path, by), EACH, "{served:?}");
    }
    let (first, second) = (of("/t/x", "cp-1"), of("/t/x", "cp-2"));
    assert_eq!(first + second, EACH, "{served:?}");
    assert!(first.abs_diff(second) <= EACH / 50, "{served:?}");
}

/// A connector that reaches no upstream costs nobody anything while a tenth of the requests can be asked twice, and no
/// more than that is asked twice.
#[test]
fn one_connectors_dead_upstream_is_made_good_within_a_budget() {
    let lab = Lab::plan().connectors(2).without_connector().start();
    let upstream = format!("127.0.0.1:{}", lab.upstream.port);
    let nowhere = format!("127.0.0.1:{}", crate::harness::ports::free());
    let mut members = [
        lab.start_member(1, &[(&upstream, &nowhere)]),
        lab.start_member(2, &[]),
    ];
    members.iter_mut().for_each(|member| member.wait_ready());
    let counted = |name: &str| lab.metric(lab.ports.gateway_admin, name, &[]);
    let mut client = Tls::connect(&lab);
    let mut post = |n: usize| {
        // In one piece: a refusal that comes before the body has ended takes the connection along.
        let head = format!(
            "POST /t/verify?seed={n} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
        );
        let body = crate::harness::pattern::body(n as u64, 100);
        client.send([head.as_bytes(), &body].concat());
        client.answer()
    };
    // The first retries are there from the start. POST too: the upstream saw nothing.
    for n in 0..16 {
        assert_eq!(post(n).text(), "100 bytes right");
    }
    assert_eq!(counted("tidegate_requests_retried_total"), 8.0);
    assert_eq!(counted("tidegate_retries_withheld_total"), 0.0);
    let mut refused = 0.0;
    for n in 16..200 {
        let answer = post(n);
        if answer.status != 200 {
            answer.assert_problem(502, "upstream_refused");
            refused += 1.0;
        }
    }
    let retried = counted("tidegate_requests_retried_total");
    assert_eq!(counted("tidegate_retries_withheld_total"), refused);
    assert!(
        refused > 0.0 && retried <= 8.0 + 200.0 / 10.0,
        "{refused} {retried}"
    );
}
