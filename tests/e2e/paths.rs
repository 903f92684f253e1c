//! Only what is published can be reached, however it is spelled.

use crate::harness::upstream::What;
use crate::harness::{Curl, Lab, Tls};

#[test]
fn an_unpublished_path_is_a_404_by_name() {
    let lab = Lab::start();
    for path in [
        "/",
        "/secret",
        "/tt/x",
        "/T/x",
        "/tx",
        "/certs/x",
        "/.tidegate/nothing",
    ] {
        let answer = Curl::new(&lab, path).answer();
        assert_eq!(answer.status, 404, "{path}");
        answer.assert_problem(404, "not_published");
    }
    assert_eq!(lab.upstream.seen().len(), 0);
}

/// Each is refused, or reaches the upstream under the published prefix in one plain spelling.
#[test]
fn no_spelling_leaves_the_published_prefix() {
    let lab = Lab::start();
    #[rustfmt::skip]
    let tricks = [
        "/t/../secret", "/t/..", "/t/../", "/../t/x", "/t/x/../../secret", "/./t/../secret", "/t/./../secret",
        "/t/%2e%2e/secret", "/t/%2E%2E/secret", "/t/.%2e/secret", "/t/%2e./secret", "/%2e%2e/t/x",
        "/t/..%2fsecret", "/t/..%2Fsecret", "/t/%2f../secret", "/t%2f..%2fsecret", "/t/..%5csecret", "/t/..\\secret",
        "/t/%252e%252e/secret", "/t/%25%32%65%25%32%65/secret", "/t/%c0%ae%c0%ae/secret", "/t/%c0%af../secret",
        "/t/..;/secret", "/t/..;x=1/secret", "/t;/../secret", "/t/.;/x", "/t/;/../secret", "/t/%3b/..;/secret",
        "/t//../secret", "//t/../secret", "///secret", "/t/x/..//../secret", "/t/.../secret",
        "/t/%00/../secret", "/t/x%00", "/t/%0a", "/t/%0d%0aX-Injected:1", "/t/%", "/t/%2", "/t/%zz", "/t/%u002e%u002e/secret",
        "/t/x#/../../secret", "/t/x?/../../secret", "/t/x%3f/../../secret", "/t/x%23/../../secret",
        "/cert/../t/../secret", "/t/../cert/x", "/t/%2e%2e/cert/x", "/t/..%2fcert/x", "/t//cert/x", "//cert/x", "/cert//x", "/cert/./x",
        "/%74/x", "/%63ert/x", "/CERT/x", "/cert%2fx", "/ce%72t/x", "/cert;/x", "/cert;a=b/x",
        "/t/\u{ff0e}\u{ff0e}/secret", "/t/%ef%bc%8e%ef%bc%8e/secret", "http://localhost/t/../secret", "https://localhost/cert/x",
        "/t/..%00/secret", "/t/~/../..", "/t/.%00./secret",
    ];
    for trick in tricks {
        let mut client = Tls::connect(&lab);
        client.send(format!("GET {trick} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let status = client.answer().status;
        assert!([200, 400, 401, 404].contains(&status), "{trick}: {status}");
    }
    let seen = lab.upstream.seen();
    for target in seen.iter().map(|seen| seen.target.as_str()) {
        let path = target.split('?').next().unwrap_or_default();
        assert!(
            path.starts_with("/t/") || path == "/t",
            "{target} reached the upstream"
        );
        let lower = path.to_ascii_lowercase();
        for sign in [
            "/../", "/./", "//", "\\", "%2e", "%2f", "%5c", "%00", "%0a", "%0d", "/..;", "/.;",
        ] {
            assert!(
                !lower.contains(sign),
                "{target} reached the upstream with {sign} in it"
            );
        }
        assert!(
            !lower.ends_with("/..") && !lower.ends_with("/."),
            "{target} reached the upstream"
        );
    }
    assert!(seen.iter().all(|seen| !seen.head.contains("X-Injected")));
}

#[test]
fn what_is_forwarded_is_the_normal_spelling() {
    let lab = Lab::start();
    for (sent, forwarded) in [
        ("/t/a/../b", "/t/b"),
        ("/t/./a", "/t/a"),
        ("/%74/a", "/t/a"),
        ("/t/%61%7e", "/t/a~"),
        ("/t/a%2db", "/t/a-b"),
        ("/t/a%c3%a4", "/t/a%C3%A4"),
        ("/t/a%20b", "/t/a%20b"),
        ("/t/a?b=%2e%2e/&c=//d", "/t/a?b=%2e%2e/&c=//d"),
        ("/t/?", "/t/?"),
        ("/t", "/t"),
    ] {
        // Heads only: that an earlier body was received, or its connection went, may be noted at any time.
        let heads = || {
            let seen = lab.upstream.seen().into_iter();
            let began = seen.filter(|seen| seen.what == What::Began);
            began.map(|seen| seen.target).collect::<Vec<_>>()
        };
        let before = heads().len();
        let mut client = Tls::connect(&lab);
        assert_eq!(client.get(sent).status, 200, "{sent}");
        assert_eq!(heads()[before], forwarded, "{sent}");
    }
}

#[test]
fn the_longest_route_decides() {
    let lab = Lab::plan()
        .route("/t/inner/", "auth = \"certificate\"")
        .start();
    assert_eq!(Curl::new(&lab, "/t/other").answer().status, 200);
    for path in [
        "/t/inner/x",
        "/t/inner",
        "/t//inner/x",
        "/t/x/../inner/x",
        "/t/%69nner/x",
    ] {
        Curl::new(&lab, path)
            .answer()
            .assert_problem(401, "unauthenticated");
    }
    assert_eq!(
        Curl::new(&lab, "/t/inners").answer().status,
        200,
        "another segment"
    );
}

#[test]
fn a_prefix_can_be_taken_off() {
    let lab = Lab::plan()
        .route("/outside/", "auth = \"none\"\nstrip_prefix = true")
        .start();
    assert_eq!(Curl::new(&lab, "/outside/a/b?c").answer().text(), "/a/b");
    assert_eq!(lab.upstream.seen()[0].target, "/a/b?c");
}
