//! `tidegate client listen`: one client that prints its pushes as they come, acknowledges them, and comes back when its
//! channel ends. The reference of what a client has to do; its channel is blocking and has the thread to itself.
//!
//! - `line`: one HTTPS connection. `channel`: what comes on a channel of each kind. `window`: pushes seen before.
//! - `wait`: how long to wait before the next try.
//!
//! What holds: a push is printed once within an hour, however often it is sent. It is acknowledged after it was printed,
//! and repeats are acknowledged too: the first receipt may have been lost.

mod channel;
mod line;
mod wait;
mod window;

use crate::client::channel::Kind;
use crate::client::load::{Target, Trust, client_tls, server_name};
use line::Trouble;
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wait::Wait;
use window::Window;

pub struct Options {
    pub gateway: Target,
    pub ca: Option<PathBuf>,
    pub insecure: bool,
    pub identity: Option<(PathBuf, PathBuf)>,
    pub token_file: Option<PathBuf>,
    pub kind: Kind,
    pub ack: bool,
    /// The envelope as it is, instead of a line for people.
    pub json: bool,
    /// End after so many pushes.
    pub count: Option<u64>,
    /// A channel without a sign of life for this long is dead.
    pub silence: Duration,
    pub poll_wait_s: u32,
}

/// What one channel leaves to the next.
struct Listener {
    options: Options,
    tls: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    host: String,
    token: Option<String>,
    window: Window,
    /// Of the push that the next channel acknowledges.
    last_id: String,
    printed: u64,
}

/// Listens until `count` pushes were printed.
///
/// # Errors
/// What no further try would change.
pub fn listen(options: Options) -> Result<(), String> {
    let mut listener = Listener::new(options)?;
    let mut wait = Wait::default();
    loop {
        let begin = Instant::now();
        let trouble = match listener.channel() {
            Ok(()) => return Ok(()),
            Err(trouble) => trouble,
        };
        let (why, told) = match trouble {
            Trouble::Hopeless(why) => return Err(why),
            Trouble::Passing(why, told) => (why, told),
        };
        if begin.elapsed() >= wait::STABLE {
            wait.reset();
        }
        let span = wait.next(told, fastrand::f64());
        eprintln!(
            "tidegate client: {why}; trying again in {:.1} s",
            span.as_secs_f64()
        );
        std::thread::sleep(span);
    }
}

impl Listener {
    fn new(options: Options) -> Result<Listener, String> {
        let target = &options.gateway;
        if !target.https {
            return Err("channels are opened over https only".to_owned());
        }
        let trust = Trust {
            ca: options.ca.as_deref(),
            insecure: options.insecure,
            tls12: false,
        };
        let token = options.token_file.as_ref().map(|file| {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
            Ok::<_, String>(text.trim().to_owned())
        });
        Ok(Listener {
            tls: Arc::new(client_tls(&trust, options.identity.as_ref())?),
            name: server_name(target)?,
            host: format!("{}:{}", target.host, target.port),
            token: token.transpose()?,
            window: Window::default(),
            last_id: String::new(),
            printed: 0,
            options,
        })
    }

    /// Prints what an envelope says, once; gives its id.
    fn print(&mut self, envelope: &str) -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(envelope).ok()?;
        let id = value.get("push")?.as_str()?.to_owned();
        if self.window.is_new(&id, Instant::now()) {
            self.printed += 1;
            match self.options.json {
                true => println!("{envelope}"),
                false => println!("{id}  {}", value.get("payload")?),
            }
        }
        Some(id)
    }

    fn is_done(&self) -> bool {
        let count = self.options.count;
        count.is_some_and(|count| self.printed >= count)
    }
}
