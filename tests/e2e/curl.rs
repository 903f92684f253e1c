//! What real curl sees: versions of TLS, kept connections, methods, ranges, uploads, `Expect`.

use crate::harness::pattern;
use crate::harness::{Curl, Lab};
use std::fs;

#[test]
fn tls_1_2_and_1_3_both_carry_requests() {
    let lab = Lab::start();
    for (option, spoken) in [("1.2", "TLSv1.2"), ("1.3", "TLSv1.3")] {
        let minimum = format!("--tlsv{option}");
        let curl = Curl::new(&lab, "/t/hello").args(&["-v", &minimum, "--tls-max", option]);
        let done = curl.run();
        assert_eq!((done.code, done.answer.status), (0, 200), "{}", done.log);
        assert!(
            done.log.contains(&format!("SSL connection using {spoken}")),
            "{}",
            done.log
        );
        assert_eq!(done.answer.text(), "/t/hello");
    }
}

#[test]
fn older_tls_is_refused() {
    let lab = Lab::start();
    let old = [
        "--tlsv1.0",
        "--tls-max",
        "1.1",
        "--ciphers",
        "DEFAULT:@SECLEVEL=0",
    ];
    let done = Curl::new(&lab, "/t/hello").args(&old).run();
    assert_eq!(done.code, 35, "{}", done.log);
    assert_eq!(
        Curl::new(&lab, "/t/hello").answer().status,
        200,
        "and it harmed nobody else"
    );
}

#[test]
fn one_connection_serves_many_requests() {
    let lab = Lab::start();
    let body = "x".repeat(100_000);
    fs::write(lab.file("body"), &body).expect("a file");
    let mut curl =
        Curl::bare(&lab).args(&["-w", "%{num_connects} %{http_code}\\n", "-o", "/dev/null"]);
    for path in [
        "/t/a",
        "/t/b",
        "/t/none/such",
        "/unpublished",
        "/cert/x",
        "/t/c",
    ] {
        curl = curl.arg(lab.url(path)).args(&["-o", "/dev/null"]);
    }
    let output = curl.output();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        ["1 200", "0 200", "0 200", "0 404", "0 401", "0 200"],
        "{text}"
    );
}

#[test]
fn any_method_passes() {
    let lab = Lab::start();
    for method in [
        "CCM_POST",
        "BITS_POST",
        "PROPFIND",
        "DELETE",
        "OPTIONS",
        "M-SEARCH",
        "get",
    ] {
        let curl = Curl::new(&lab, "/t/head").args(&["-X", method, "-d", "some text"]);
        let answer = curl.answer();
        assert_eq!(answer.status, 200);
        assert!(
            answer
                .text()
                .starts_with(&format!("{method} /t/head HTTP/1.1\n")),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn ranges_of_a_file_are_served() {
    let lab = Lab::plan().nginx().start();
    let file = pattern::body(1, 100_000);
    lab.nginx.as_ref().expect("nginx").put("blob", &file);
    let part = Curl::new(&lab, "/files/blob")
        .args(&["-r", "1000-1999"])
        .answer();
    assert_eq!(part.status, 206);
    assert_eq!(part.header("Content-Range"), Some("bytes 1000-1999/100000"));
    assert_eq!(part.body, file[1000..2000]);
    let tail = Curl::new(&lab, "/files/blob").args(&["-r", "-17"]).answer();
    assert_eq!(tail.body, file[100_000 - 17..]);
    let outside = Curl::new(&lab, "/files/blob")
        .args(&["-r", "100000-"])
        .answer();
    assert_eq!(outside.status, 416);
    let several = Curl::new(&lab, "/files/blob")
        .args(&["-r", "0-9,50-59"])
        .answer();
    assert_eq!(several.status, 206);
    assert!(
        several
            .header("Content-Type")
            .is_some_and(|t| t.starts_with("multipart/byteranges"))
    );
}

#[test]
fn an_unchanged_file_is_told_without_body() {
    let lab = Lab::plan().nginx().start();
    lab.nginx.as_ref().expect("nginx").put("blob", b"content");
    let first = Curl::new(&lab, "/files/blob").answer();
    let tag = format!(
        "If-None-Match: {}",
        first.header("ETag").expect("nginx gives an ETag")
    );
    let second = Curl::new(&lab, "/files/blob").args(&["-H", &tag]).answer();
    assert_eq!((second.status, second.body.len()), (304, 0));
    let head = Curl::new(&lab, "/files/blob").arg("--head").answer();
    assert_eq!(
        (head.status, head.header("Content-Length")),
        (200, Some("7"))
    );
}

#[test]
fn files_of_nginx_arrive_byte_for_byte() {
    let lab = Lab::plan().nginx().start();
    let nginx = lab.nginx.as_ref().expect("nginx");
    // Around the edges of records, frames, windows and buffers.
    let sizes = [
        0,
        1,
        2047,
        2048,
        16_375,
        16_376,
        16_377,
        16_384,
        65_535,
        65_536,
        65_537,
        1 << 20,
        (5 << 20) + 3,
    ];
    for size in sizes {
        nginx.put(&size.to_string(), &pattern::body(size, size));
    }
    for tls in ["1.2", "1.3"] {
        for size in sizes {
            let curl = Curl::new(&lab, &format!("/files/{size}"));
            let answer = curl.args(&["--tls-max", tls]).answer();
            assert_eq!(
                answer.header("Content-Length"),
                Some(size.to_string().as_str())
            );
            assert!(
                answer.body == pattern::body(size, size),
                "the file of {size} bytes over TLS {tls}"
            );
        }
    }
}

#[test]
fn uploads_arrive_with_and_without_length() {
    let lab = Lab::start();
    let size = (3 << 20) + 17;
    fs::write(lab.file("body"), pattern::body(9, size)).expect("a file");
    let upload = format!("{}", lab.file("body").display());
    let right = format!("{size} bytes right");
    let measured = Curl::new(&lab, "/t/verify?seed=9")
        .args(&["-T", &upload])
        .answer();
    assert_eq!(measured.text(), right);
    let chunked = Curl::new(&lab, "/t/verify?seed=9&n=2").args(&[
        "-T",
        &upload,
        "-H",
        "Transfer-Encoding: chunked",
    ]);
    assert_eq!(chunked.answer().text(), right);
    let head = lab
        .upstream
        .seen()
        .into_iter()
        .find(|seen| seen.target.contains("n=2"))
        .expect("it was seen")
        .head;
    assert!(
        head.to_ascii_lowercase()
            .contains("transfer-encoding: chunked"),
        "{head}"
    );
}

#[test]
fn who_asks_first_is_told_to_continue() {
    let lab = Lab::start();
    fs::write(lab.file("body"), pattern::body(9, 200_000)).expect("a file");
    let upload = format!("{}", lab.file("body").display());
    let expect = [
        "-v",
        "-T",
        &upload,
        "-H",
        "Expect: 100-continue",
        "--expect100-timeout",
        "30",
    ];
    let done = Curl::new(&lab, "/t/verify?seed=9").args(&expect).run();
    assert_eq!(done.answer.text(), "200000 bytes right", "{}", done.log);
    assert!(done.log.contains("HTTP/1.1 100 Continue"), "{}", done.log);
}

#[test]
fn an_early_answer_arrives_during_an_upload() {
    let lab = Lab::start();
    fs::write(lab.file("body"), pattern::body(9, 50 << 20)).expect("a file");
    let upload = format!("{}", lab.file("body").display());
    let done = Curl::new(&lab, "/t/early")
        .args(&["-T", &upload, "-H", "Expect:"])
        .run();
    assert_eq!(done.answer.status, 413, "{}", done.log);
    assert_eq!(done.answer.text(), "too large for me");
    assert_eq!(
        done.answer.header("Tidegate-Error"),
        None,
        "it is the upstream's own answer"
    );
}
