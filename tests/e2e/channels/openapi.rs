//! The API's OpenAPI document against the API.

use super::clients::python;
use super::commands::{API_TOKEN, lab_with_api_token};
use super::device;
use super::pushes::DEVICE;
use crate::harness::channel::Stream;
use crate::harness::until;

#[test]
fn every_operation_answers_as_the_document_says() {
    let lab = lab_with_api_token();
    let _stream = Stream::open(device(&lab), "");
    let name = "tidegate_hub_clients";
    until("the client is known", super::PATIENCE, || {
        (lab.metric(lab.ports.connector_admin, name, &[]) == 1.0).then_some(())
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/channels/openapi.py");
    let output = python(&lab, "jsonschema", ">=4.18")
        .args([script, &format!("http://127.0.0.1:{}", lab.ports.notify)])
        .args([API_TOKEN, DEVICE])
        .output()
        .expect("python");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("good\n"), "{said}");
}
