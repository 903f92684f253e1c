//! `load push`: pushes at a steady pace through a connector's API while the channels are held, and how long each took.
//!
//! A push is due at its time whatever became of the ones before it, and its clock starts when its call does. Its payload
//! has that moment in it, which the channels' readers compare with theirs: both are in this process.

use super::job::count;
use super::report::Pushed;
use super::run::{LOOK_EVERY, Options, Run};
use crate::client::api::{Access, Api};
use hdrhistogram::Histogram;
use memchr::memmem;
use reqwest::Response;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::MissedTickBehavior;

/// Calls under way; the API takes 128. A push that waits for its turn has its clock running.
const CALLS: usize = 100;
/// How long the connector may take to know all channels, and a push to reach its clients once the last one moved.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pushes of whose receipts some were faster than the call's answer.
const EARLY_MAX: usize = 65_536;
/// Ids of clients that have channels are asked for in pages of this.
const PAGE: usize = 1000;
/// Of each push: what a run leaves behind is soon gone.
const TTL_S: u32 = 60;
/// A payload without its time and filling.
const EMPTY: &str = r#"{"t":,"fill":""}"#;

/// What is pushed.
pub struct Pushing {
    pub access: Access,
    pub count: u32,
    /// A second.
    pub rate: u32,
    /// To all, or to one client at random.
    pub to_all: bool,
    pub queue: bool,
    /// Of a payload, about.
    pub bytes: usize,
}

/// Opens, pushes, prints the report. True when every push reached everybody it was for, and no channel was lost.
///
/// # Errors
/// The API or the gateway cannot be used at all.
pub fn push(options: &Options, pushing: &Pushing) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let api = Rc::new(Api::new(&pushing.access)?);
    // What is wrong with the API is said before a channel is opened.
    runtime.block_on(api.get("/v1/clients?limit=1"))?;
    let mut run = Run::start(options)?;
    run.open()?;
    let pushed = LocalSet::new().block_on(&runtime, drive(&api, &mut run, pushing))?;
    let mut report = run.finish()?;
    report.pushed = Some(pushed);
    report.publish("push", options.json.as_deref())
}

async fn drive(api: &Rc<Api>, run: &mut Run, pushing: &Pushing) -> Result<Pushed, String> {
    let clients = present(api, run).await?;
    let book = Rc::new(RefCell::new(Book::new(pushing.count)));
    let events = api.events().await?;
    let listener = spawn_local(listen(events, book.clone()));
    run.mark();
    let begin = Instant::now();
    calls(api, run, pushing, &clients, &book).await?;
    arrive(run, pushing, &book).await?;
    run.show("pushing", 1.0, begin, &run.counts(), true);
    run.mark();
    listener.abort();
    let ids = std::mem::take(&mut book.borrow_mut().ids);
    for id in ids {
        let results = api.get(&format!("/v1/push/{id}")).await;
        book.borrow_mut().pushed.outcome(results, pushing.to_all);
    }
    let mut book = book.borrow_mut();
    Ok(std::mem::replace(&mut book.pushed, Pushed::new(0)))
}

/// Calls at the pace asked for, each in a task of its own.
async fn calls(
    api: &Rc<Api>,
    run: &mut Run,
    pushing: &Pushing,
    clients: &[String],
    book: &Shared,
) -> Result<(), String> {
    let (begin, permits) = (Instant::now(), Rc::new(Semaphore::new(CALLS)));
    let mut shown = begin;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / pushing.rate.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0..pushing.count {
        pace.tick().await;
        let called = Instant::now();
        if called > shown + LOOK_EVERY {
            shown = called;
            run.check()?;
            let part = f64::from(n) / f64::from(pushing.count);
            run.show("pushing", part, begin, &run.counts(), false);
        }
        let to = match clients.get(fastrand::usize(..clients.len())) {
            Some(client) if !pushing.to_all => json!({ "clients": [client] }),
            _ => json!({ "all": true }),
        };
        let body = body(
            &to,
            pushing,
            called.saturating_duration_since(run.job.epoch),
        );
        let (api, permits, book) = (api.clone(), permits.clone(), book.clone());
        spawn_local(async move {
            let _permit = permits.acquire().await;
            let answer = api.push(body).await;
            book.borrow_mut().answered(called, answer);
        });
    }
    Ok(())
}

/// Waits until everything is there, or nothing more comes.
async fn arrive(run: &mut Run, pushing: &Pushing, book: &Shared) -> Result<(), String> {
    let (mut last, mut moved) = (None, Instant::now());
    loop {
        run.check()?;
        let counts = run.counts();
        let now = {
            let pushed = &book.borrow().pushed;
            let fan = if pushing.to_all { counts.held } else { 1 };
            let (calls, unheard) = (pushed.calls(), pushed.unheard.is_some());
            let all_there = calls == u64::from(pushed.asked)
                && counts.pushes - counts.repeats >= pushed.accepted * fan
                && (unheard || pushed.receipts >= counts.receipts);
            if all_there {
                return Ok(());
            }
            (calls, counts.pushes, pushed.receipts)
        };
        if last != Some(now) {
            (last, moved) = (Some(now), Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Ids of the clients that have channels, once the connector knows of all of ours.
async fn present(api: &Api, run: &Run) -> Result<Vec<String>, String> {
    // Clients with one certificate or token in common are one.
    let opened = run.counts().held;
    let ours = match run.job.identities {
        Some(_) => opened,
        None => opened.min(1),
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let known = listed(api).await?;
        if !known.is_empty() && known.len() as u64 >= ours {
            return Ok(known);
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "the connector knows {} of {ours} clients: is it this gateway's, and of this site?",
                known.len()
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn listed(api: &Api) -> Result<Vec<String>, String> {
    let mut known = Vec::new();
    let mut after = 0;
    loop {
        let page = api
            .get(&format!("/v1/clients?limit={PAGE}&after={after}"))
            .await?;
        let clients = page["clients"].as_array().into_iter().flatten();
        known.extend(clients.filter_map(|client| Some(client["client"].as_str()?.to_owned())));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => return Ok(known),
        }
    }
}

fn body(to: &Value, pushing: &Pushing, at: Duration) -> Vec<u8> {
    let time = at.as_nanos().to_string();
    let fill = pushing.bytes.saturating_sub(time.len() + EMPTY.len());
    let queue = pushing.queue;
    // The time stands first: readers look for it there.
    format!(
        "{{\"to\":{to},\"queue\":{queue},\"ttl_s\":{TTL_S},\
         \"payload\":{{\"t\":{time},\"fill\":\"{:x<fill$}\"}}}}",
        ""
    )
    .into_bytes()
}

type Shared = Rc<RefCell<Book>>;

/// What is known of the pushes so far.
struct Book {
    pushed: Pushed,
    ids: Vec<String>,
    /// When the call of each began.
    called: HashMap<String, Instant>,
    /// Receipts that were faster than the call's answer.
    early: HashMap<String, Vec<Instant>>,
}

impl Book {
    fn new(asked: u32) -> Book {
        Book {
            pushed: Pushed::new(asked),
            ids: Vec::new(),
            called: HashMap::new(),
            early: HashMap::new(),
        }
    }

    fn answered(&mut self, called: Instant, answer: Result<String, String>) {
        match answer {
            Ok(id) => {
                self.pushed.accepted += 1;
                record(&mut self.pushed.call, called.elapsed());
                for at in self.early.remove(&id).unwrap_or_default() {
                    self.pushed.receipts += 1;
                    record(&mut self.pushed.receipt, at - called);
                }
                self.called.insert(id.clone(), called);
                self.ids.push(id);
            }
            Err(why) => count(&mut self.pushed.refused, &why, 1),
        }
    }

    fn receipt(&mut self, push: &str) {
        let now = Instant::now();
        if let Some(called) = self.called.get(push) {
            self.pushed.receipts += 1;
            record(&mut self.pushed.receipt, now - *called);
        } else if self.early.len() < EARLY_MAX {
            self.early.entry(push.to_owned()).or_default().push(now);
        }
    }
}

fn record(times: &mut Histogram<u64>, took: Duration) {
    let _ = times.record(took.as_micros() as u64);
}

/// Reads the API's events, for receipts.
async fn listen(mut events: Response, book: Shared) {
    let mut text = Vec::new();
    let why = loop {
        match events.chunk().await {
            Ok(Some(bytes)) => text.extend_from_slice(&bytes),
            Ok(None) => break "the API cut its event stream: more came than it keeps for one",
            Err(_) => break "the event stream failed",
        }
        let mut used = 0;
        while let Some(end) = memmem::find(&text[used..], b"\n\n") {
            if let Some(push) = receipt(&text[used..used + end]) {
                book.borrow_mut().receipt(&push);
            }
            used += end + 2;
        }
        text.drain(..used);
    };
    book.borrow_mut().pushed.unheard = Some(why);
}

/// The push that an event acknowledges.
fn receipt(event: &[u8]) -> Option<String> {
    let data = event.strip_prefix(b"event: receipt\ndata: ")?;
    let data: Value = serde_json::from_slice(data).ok()?;
    Some(data["push"].as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::channel::envelope::envelopes;

    fn pushing(bytes: usize) -> Pushing {
        Pushing {
            access: Access {
                api: String::new(),
                token_file: None,
                ca: None,
                identity: None,
            },
            count: 1,
            rate: 1,
            to_all: true,
            queue: false,
            bytes,
        }
    }

    #[test]
    fn readers_find_the_time_of_a_payload_that_is_as_long_as_asked() {
        let at = Duration::from_nanos(123_456_789);
        for (bytes, long) in [(0, 25), (1024, 1024)] {
            let body: Value =
                serde_json::from_slice(&body(&json!({"all": true}), &pushing(bytes), at)).unwrap();
            let payload = body["payload"].to_string();
            assert_eq!(payload.len(), long, "{payload}");
            let payload = format!(
                "{{\"t\":{},\"fill\":{}}}",
                body["payload"]["t"], body["payload"]["fill"]
            );
            let text = format!("{{\"push\":\"{:026}\",\"payload\":{payload}}}", 1);
            let envelope = envelopes(text.as_bytes()).next().unwrap();
            assert_eq!(envelope.sent_ns, Some(123_456_789));
        }
    }

    #[test]
    fn a_receipt_counts_whether_the_answer_or_it_comes_first() {
        let mut book = Book::new(2);
        book.receipt("a");
        book.answered(Instant::now(), Ok("a".into()));
        book.answered(Instant::now(), Ok("b".into()));
        book.receipt("b");
        book.receipt("not ours");
        assert_eq!((book.pushed.receipts, book.pushed.receipt.len()), (2, 2));
        assert_eq!(receipt(b"event: up\ndata: {\"client\":\"x\"}"), None);
        let event = b"event: receipt\ndata: {\"push\":\"p\",\"client\":\"x\"}";
        assert_eq!(receipt(event).as_deref(), Some("p"));
    }
}
