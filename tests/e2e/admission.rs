//! What a route lets pass: methods, body sizes.

use crate::harness::upstream::What;
use crate::harness::{Curl, Lab, Tls};
use std::fs;
use std::time::Duration;

fn small() -> Lab {
    Lab::plan()
        .route("/small/", "auth = \"none\"\nmax_body = \"1 KiB\"")
        .start()
}

#[test]
fn a_body_over_the_routes_limit_is_refused() {
    let lab = small();
    for (size, status) in [(1024, 200), (1025, 413)] {
        fs::write(lab.file("body"), vec![b'x'; size]).expect("a file");
        let upload = lab.file("body").display().to_string();
        let answer = Curl::new(&lab, "/small/length")
            .args(&["-T", &upload])
            .answer();
        assert_eq!(answer.status, status, "{size} bytes");
        if status == 413 {
            answer.assert_problem(413, "body_too_large");
        }
        let chunked = Curl::new(&lab, "/small/chunked").args(&[
            "-T",
            &upload,
            "-H",
            "Transfer-Encoding: chunked",
        ]);
        let done = chunked.run();
        assert_eq!(
            done.answer.status, status,
            "{size} bytes in chunks: {}",
            done.log
        );
    }
    // It notes what it received once it has answered.
    for part in ["length", "chunked"] {
        lab.upstream
            .wait_for(What::Received, part, Duration::from_secs(10));
    }
    let received = |part: &str| {
        let all = lab.upstream.seen();
        all.iter()
            .filter(|s| s.what == What::Received && s.target.contains(part))
            .count()
    };
    assert_eq!(
        (lab.upstream.count("length"), received("length")),
        (1, 1),
        "what says its size is refused unseen"
    );
    assert_eq!(received("chunked"), 1, "what does not is never complete");
}

#[test]
fn a_body_too_large_is_refused_before_it_is_sent() {
    let lab = small();
    let mut client = Tls::connect(&lab);
    client.send(
        "POST /small/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\nExpect: 100-continue\r\n\r\n",
    );
    client.answer().assert_problem(413, "body_too_large");
}

#[test]
fn methods_outside_the_routes_list_are_refused() {
    let lab = Lab::plan()
        .route("/read/", "auth = \"none\"\nmethods = [\"GET\", \"HEAD\"]")
        .start();
    let mut client = Tls::connect(&lab);
    assert_eq!(client.get("/read/x").status, 200);
    for method in ["POST", "DELETE", "get", "GETX", "CCM_POST"] {
        client.send(format!(
            "{method} /read/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        ));
        client.answer().assert_problem(405, "method_not_allowed");
    }
    assert_eq!(client.get("/read/y").status, 200, "the connection goes on");
    assert_eq!(lab.upstream.count("/read/"), 2);
}

#[test]
fn a_refused_upload_keeps_the_connection_in_step() {
    let lab = Lab::plan()
        .route("/read/", "auth = \"none\"\nmethods = [\"GET\"]")
        .start();
    let mut client = Tls::connect(&lab);
    let inner = "GET /t/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send(format!(
        "POST /read/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{inner}",
        inner.len()
    ));
    client.answer().assert_problem(405, "method_not_allowed");
    // Either the connection ends, or the body was read as a body.
    let next = "GET /t/next HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if client.try_send(next).is_ok()
        && let Ok(answer) = client.try_answer()
    {
        assert_eq!(answer.text(), "/t/next");
    }
    assert_eq!(lab.upstream.count("smuggled"), 0);
}
