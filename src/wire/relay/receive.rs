//! How frames arrive: `Session::next` and what each kind does to the session.

use super::channel;
use super::control;
use super::credit::StreamWindow;
use super::frame::{Header, Kind, Place, Step};
use super::head;
use super::session::{Phase, Session};
use super::slots::Found;
use super::stream::{Half, Received, Verdict};
use super::{
    Event, Fault, Fields, Hello, Ready, ResetCode, Role, SessionError, StreamId, VERSION, refusal,
};
use crate::wire::Put;
use std::time::{Duration, Instant};

/// What a frame that was taken in means to the owner; `event` joins it with the frame's bytes.
enum Taken<T> {
    /// Nothing to tell.
    Nothing,
    Hello(Box<Hello>),
    Ready(Box<Ready>),
    Refused,
    Open,
    Head(T),
    Data(T),
    End(T),
    Reset(T),
    /// The peer broke the protocol on this stream, and we reset it.
    Broken(T, &'static str),
    Publish,
    Published,
    GoAway,
    RoundTrip(Duration),
    /// A channel frame, by its kind.
    Channels,
}

impl<T: Copy> Session<T> {
    /// Takes link plaintext from `input[*used..]`, advances `*used`, gives one event; `None` when input is used up (a
    /// partial frame is kept inside). `out` takes what the session answers by itself (PONG, CREDIT, RESET, and REFUSE
    /// before an `Err`). The body bytes of one DATA frame may come in several events.
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        used: &mut usize,
        now: Instant,
        out: &mut impl Put,
    ) -> Result<Option<Event<'a, T>>, SessionError> {
        self.tick(now);
        if *used < input.len() {
            self.liveness.heard(now);
        }
        loop {
            if self.phase == Phase::Over {
                *used = input.len();
                return Ok(None);
            }
            let step = match self.decoder.step(input, used) {
                Ok(Some(step)) => step,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.fail(error, out)),
            };
            let taken = match &step.place {
                Place::Input(range) => {
                    let payload = input.get(range.clone()).unwrap_or_default();
                    self.take(&step, payload, out)
                }
                Place::Assembled => {
                    let assembly = self.decoder.lend();
                    let taken = self.take(&step, &assembly, out);
                    self.decoder.restore(assembly);
                    taken
                }
            };
            match taken {
                Ok(Taken::Nothing) => {}
                Ok(taken) => {
                    let payload = match step.place {
                        Place::Input(range) => input.get(range).unwrap_or_default(),
                        Place::Assembled => self.decoder.assembled(),
                    };
                    return event(taken, step.header, payload);
                }
                Err(error) => return Err(self.fail(error, out)),
            }
        }
    }

    /// The session is broken: the peer is told why, nothing more is sent or taken.
    fn fail(&mut self, error: SessionError, out: &mut impl Put) -> SessionError {
        let code = match error.fault {
            Fault::Version => refusal::VERSION,
            _ => refusal::PROTOCOL,
        };
        self.send_refused(code, &error.text, out);
        error
    }

    fn take(
        &mut self,
        step: &Step,
        payload: &[u8],
        out: &mut impl Put,
    ) -> Result<Taken<T>, SessionError> {
        let Header {
            kind,
            stream,
            length,
        } = step.header;
        let stream = StreamId(stream);
        self.expect(kind)?;
        match kind {
            Kind::Data => self.take_data(stream, length, step.first, out),
            Kind::Head => {
                let interim = head::check_head(payload).map_err(broken)?;
                self.take_body(stream, kind, Received::Head { interim }, out)
            }
            Kind::End => {
                head::check_fields(payload).map_err(broken)?;
                self.take_body(stream, kind, Received::End, out)
            }
            Kind::Open => self.take_open(stream, payload, out),
            Kind::Reset => self.take_reset(stream, payload, out),
            Kind::Credit => self.take_credit(stream, payload),
            Kind::Hello => self.take_hello(payload),
            Kind::Ready => self.take_ready(payload, out),
            Kind::Refuse => {
                control::decode_coded_text(payload).ok_or_else(|| broken("REFUSE unreadable"))?;
                self.phase = Phase::Over;
                Ok(Taken::Refused)
            }
            Kind::Ping => {
                self.pong_due = Some(number(payload));
                self.send_session_control(out);
                Ok(Taken::Nothing)
            }
            Kind::Pong => {
                let round_trip = self.liveness.pong(number(payload), self.now)?;
                Ok(round_trip.map_or(Taken::Nothing, Taken::RoundTrip))
            }
            Kind::GoAway => {
                self.going_away = true;
                self.peer_leaves = true;
                Ok(Taken::GoAway)
            }
            Kind::Publish => {
                let chunk =
                    control::decode_publish(payload).ok_or_else(|| broken("PUBLISH unreadable"))?;
                self.incoming.take(&chunk)?;
                Ok(Taken::Publish)
            }
            Kind::Published => {
                control::decode_published(payload).ok_or_else(|| broken("PUBLISHED unreadable"))?;
                Ok(Taken::Published)
            }
            Kind::ChannelUp
            | Kind::ChannelDown
            | Kind::ChannelClose
            | Kind::Notify
            | Kind::Outcome
            | Kind::Receipt => self.take_channels(kind, payload),
        }
    }

    fn take_channels(&mut self, kind: Kind, payload: &[u8]) -> Result<Taken<T>, SessionError> {
        if !channel::check(kind, payload) {
            return Err(broken(&format!("{} unreadable", kind.name())));
        }
        if let (Kind::ChannelUp, Some(&flags)) = (kind, payload.first()) {
            self.listing |= channel::starts_list(flags);
            if channel::ends_list(flags) && !std::mem::take(&mut self.listing) {
                return Err(broken("CHANNEL_UP ends a list that did not begin"));
            }
        }
        Ok(Taken::Channels)
    }

    /// May the peer send this kind now?
    fn expect(&self, kind: Kind) -> Result<(), SessionError> {
        use Kind::{Data, End, Head, Open};
        let usual = match self.role {
            Role::Gateway => matches!(kind, Head | Data | End),
            Role::Connector => matches!(kind, Open | Data | End),
        };
        if usual && self.phase == Phase::Ready {
            return Ok(());
        }
        let in_phase = match (self.phase, kind) {
            (_, Kind::Refuse) => true,
            (Phase::Ready, kind) => kind != Kind::Hello && kind != Kind::Ready,
            (Phase::Fresh, Kind::Hello) | (Phase::Greeted, Kind::Ready) => true,
            _ => false,
        };
        let from = match kind {
            Kind::Hello | Kind::Head | Kind::Publish => Some(Role::Connector),
            Kind::Ready | Kind::Open | Kind::Published => Some(Role::Gateway),
            Kind::ChannelClose | Kind::Notify => Some(Role::Connector),
            Kind::ChannelUp | Kind::ChannelDown | Kind::Outcome | Kind::Receipt => {
                Some(Role::Gateway)
            }
            _ => None,
        };
        if !in_phase {
            return Err(broken(&format!("{} out of phase", kind.name())));
        }
        if from == Some(self.role) {
            return Err(broken(&format!("{} from the wrong side", kind.name())));
        }
        if kind.is_of_channels() && !self.channels_on {
            return Err(broken(&format!("{} without its feature", kind.name())));
        }
        Ok(())
    }

    fn take_hello(&mut self, payload: &[u8]) -> Result<Taken<T>, SessionError> {
        let (hello, offer) = control::decode_hello(payload).map_err(broken)?;
        let (lowest, highest) = hello.versions;
        if !(lowest..=highest).contains(&VERSION) {
            return Err(SessionError {
                fault: Fault::Version,
                text: format!("connector speaks versions {lowest} to {highest}, we {VERSION}"),
            });
        }
        self.offer = offer;
        self.phase = Phase::Greeted;
        Ok(Taken::Hello(Box::new(hello)))
    }

    fn take_ready(&mut self, payload: &[u8], out: &mut impl Put) -> Result<Taken<T>, SessionError> {
        let ready = control::decode_ready(payload).ok_or_else(|| broken("READY unreadable"))?;
        let (lowest, highest) = self.offered_versions;
        if ready.version != VERSION || !(lowest..=highest).contains(&ready.version) {
            return Err(SessionError {
                fault: Fault::Version,
                text: format!(
                    "gateway picked version {}, which we did not offer",
                    ready.version
                ),
            });
        }
        if ready.features & !self.features != 0 {
            return Err(broken("READY with features that were not offered"));
        }
        self.become_ready(ready.features, out);
        Ok(Taken::Ready(Box::new(ready)))
    }

    fn take_open(
        &mut self,
        id: StreamId,
        payload: &[u8],
        out: &mut impl Put,
    ) -> Result<Taken<T>, SessionError> {
        head::check_open(payload).map_err(broken)?;
        let window = StreamWindow::new(self.limits.initial_stream_credit, self.now_ms());
        let slot = self
            .slots
            .accept(id, self.limits.streams, window)
            .map_err(broken)?;
        self.reserve_lists();
        self.grant_start(slot, out);
        Ok(Taken::Open)
    }

    /// DATA, or a further piece of one: charged to session and stream whole with its first piece.
    fn take_data(
        &mut self,
        id: StreamId,
        length: usize,
        first: bool,
        out: &mut impl Put,
    ) -> Result<Taken<T>, SessionError> {
        if !first {
            // Whether the owner has reset the stream meanwhile is all that can have changed.
            let token = self.live(id).and_then(|slot| self.slots.get(slot).token);
            return Ok(token.map_or(Taken::Nothing, Taken::Data));
        }
        if !self.session_window.pass(length) {
            return Err(broken("DATA over the session's credit"));
        }
        if self.session_window.is_due() {
            self.send_session_control(out);
        }
        let taken = self.take_body(id, Kind::Data, Received::Data, out)?;
        if let Taken::Data(_) = taken
            && let Some(slot) = self.live(id)
            && !self.slots.get(slot).window.charge(length)
        {
            return Ok(self.break_stream(slot, "DATA over the stream's credit", out));
        }
        Ok(taken)
    }

    /// HEAD, DATA and END: the stream's state decides.
    fn take_body(
        &mut self,
        id: StreamId,
        kind: Kind,
        frame: Received,
        out: &mut impl Put,
    ) -> Result<Taken<T>, SessionError> {
        let slot = match self.slots.find(id) {
            Found::Slot(slot) => slot,
            Found::Late => return Err(on_stream(kind, id, "after its end")),
            Found::Never => return Err(on_stream(kind, id, "which was not opened")),
        };
        let stream = self.slots.get(slot);
        match stream.state.receive(frame) {
            Verdict::Deliver => {}
            Verdict::BreakSession(why) => return Err(on_stream(kind, id, why)),
            Verdict::BreakStream(why) => return Ok(self.break_stream(slot, why, out)),
            Verdict::Ignore | Verdict::DeliverAndAnswer => {
                self.release_if_done(slot);
                return Ok(Taken::Nothing);
            }
        }
        let Some(token) = stream.token else {
            // The owner was told of the stream and did not take it.
            self.send_reset(slot, ResetCode::Internal, "stream not attached", out);
            return Ok(Taken::Nothing);
        };
        Ok(match frame {
            Received::Head { .. } => Taken::Head(token),
            Received::Data => Taken::Data(token),
            Received::End => {
                self.release_if_done(slot);
                Taken::End(token)
            }
            Received::Reset => Taken::Nothing,
        })
    }

    fn take_reset(
        &mut self,
        id: StreamId,
        payload: &[u8],
        out: &mut impl Put,
    ) -> Result<Taken<T>, SessionError> {
        control::decode_coded_text(payload).ok_or_else(|| broken("RESET unreadable"))?;
        let slot = match self.slots.find(id) {
            Found::Slot(slot) => slot,
            // It crossed our END.
            Found::Late => return Ok(Taken::Nothing),
            Found::Never => return Err(on_stream(Kind::Reset, id, "which was not opened")),
        };
        let stream = self.slots.get(slot);
        let verdict = stream.state.receive(Received::Reset);
        let token = stream.token.take();
        match verdict {
            Verdict::Deliver => {
                self.drop_queue(slot);
                self.release_if_done(slot);
            }
            Verdict::DeliverAndAnswer => self.send_reset(slot, ResetCode::Cancelled, "", out),
            Verdict::Ignore => {
                self.release_if_done(slot);
                return Ok(Taken::Nothing);
            }
            Verdict::BreakStream(why) | Verdict::BreakSession(why) => {
                return Err(on_stream(Kind::Reset, id, why));
            }
        }
        Ok(token.map_or(Taken::Nothing, Taken::Reset))
    }

    fn take_credit(&mut self, id: StreamId, payload: &[u8]) -> Result<Taken<T>, SessionError> {
        let n = payload
            .first_chunk::<4>()
            .map_or(0, |b| u32::from_be_bytes(*b));
        if id.0 == 0 {
            if !self.session_credit.grant(n) {
                return Err(broken("CREDIT of 0 or beyond 2^31-1 on the session"));
            }
            self.schedule.feed();
            return Ok(Taken::Nothing);
        }
        let slot = match self.slots.find(id) {
            Found::Slot(slot) => slot,
            // It crossed our END or RESET.
            Found::Late => return Ok(Taken::Nothing),
            Found::Never => return Err(on_stream(Kind::Credit, id, "which was not opened")),
        };
        let stream = self.slots.get(slot);
        if stream.state.theirs == Half::Reset {
            return Err(on_stream(Kind::Credit, id, "after RESET"));
        }
        if !stream.credit.grant(n) {
            return Err(on_stream(Kind::Credit, id, "of 0 or beyond 2^31-1"));
        }
        self.wake(slot);
        Ok(Taken::Nothing)
    }

    /// The peer broke the protocol on one stream only: that one is reset, and its owner told.
    fn break_stream(&mut self, slot: usize, why: &'static str, out: &mut impl Put) -> Taken<T> {
        let token = self.slots.get(slot).token;
        self.send_reset(slot, ResetCode::Protocol, why, out);
        token.map_or(Taken::Nothing, |token| Taken::Broken(token, why))
    }
}

/// Joins what was taken with the bytes of its frame, which have been checked.
#[inline]
fn event<T>(
    taken: Taken<T>,
    header: Header,
    payload: &[u8],
) -> Result<Option<Event<'_, T>>, SessionError> {
    let stream = StreamId(header.stream);
    let joined = match taken {
        Taken::Nothing => None,
        Taken::Hello(hello) => Some(Event::Hello(*hello)),
        Taken::Ready(ready) => Some(Event::Ready(*ready)),
        Taken::Refused => {
            control::decode_coded_text(payload).map(|(code, text)| Event::Refused { code, text })
        }
        Taken::Open => head::decode_open(payload).map(|head| Event::Open { stream, head }),
        Taken::Head(token) => head::decode_head(payload).map(|head| Event::Head {
            stream,
            token,
            head,
        }),
        Taken::Data(token) => Some(Event::Data {
            stream,
            token,
            bytes: payload,
        }),
        Taken::End(token) => Some(Event::End {
            stream,
            token,
            trailers: Fields { bytes: payload },
        }),
        Taken::Reset(token) => {
            control::decode_coded_text(payload).map(|(code, text)| Event::Reset {
                stream,
                token,
                code: control::reset_code(code),
                text,
            })
        }
        Taken::Broken(token, text) => Some(Event::Reset {
            stream,
            token,
            code: ResetCode::Protocol,
            text,
        }),
        Taken::Publish => control::decode_publish(payload).map(|c| Event::Publish {
            hash: c.hash,
            total: c.total,
            offset: c.offset,
            bytes: c.bytes,
        }),
        Taken::Published => {
            control::decode_published(payload).map(|(hash, accepted, text)| Event::Published {
                hash,
                accepted,
                text,
            })
        }
        Taken::GoAway => control::decode_go_away(payload)
            .map(|(deadline, delay)| Event::GoAway { deadline, delay }),
        Taken::RoundTrip(time) => Some(Event::RoundTrip(time)),
        Taken::Channels => channel_event(header.kind, payload),
    };
    if joined.is_none() {
        return Err(broken("frame unreadable"));
    }
    Ok(joined)
}

fn channel_event<T>(kind: Kind, payload: &[u8]) -> Option<Event<'_, T>> {
    match kind {
        Kind::ChannelUp => channel::decode_up(payload).map(|up| Event::ChannelUp {
            list_starts: channel::starts_list(up.flags),
            list_ends: channel::ends_list(up.flags),
            channels: up.channels,
        }),
        Kind::ChannelDown => Some(Event::ChannelDown(channel::decode_down(payload))),
        Kind::ChannelClose => Some(Event::ChannelClose(channel::decode_close(payload))),
        Kind::Notify => channel::decode_notify(payload).map(|notify| Event::Notify {
            push: notify.push,
            repeat: notify.repeat,
            audience: notify.audience,
            payload: notify.payload,
        }),
        Kind::Outcome => {
            channel::decode_outcome(payload).map(|(push, outcome)| Event::Outcome { push, outcome })
        }
        Kind::Receipt => Some(Event::Receipt(channel::decode_receipt(payload))),
        _ => None,
    }
}

fn broken(why: &str) -> SessionError {
    SessionError::protocol(why.to_owned())
}

fn on_stream(kind: Kind, id: StreamId, why: &str) -> SessionError {
    SessionError::protocol(format!(
        "{} on stream {}.{} {why}",
        kind.name(),
        id.slot(),
        id.generation()
    ))
}

fn number(payload: &[u8]) -> u64 {
    payload
        .first_chunk::<8>()
        .map_or(0, |b| u64::from_be_bytes(*b))
}
