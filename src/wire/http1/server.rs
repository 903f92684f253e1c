//! The server's side of one connection.

use super::body::Decoder;
use super::head::{self, RequestNotes};
use super::intake::{Intake, Next, Stage};
use super::scan::Section;
use super::write::{Encoder, Keep, Pen, write_fields, write_framing};
use super::{Field, Fields, Framing, Limits, Refusal, RequestHead};
use crate::wire::Put;

#[derive(Clone, Copy, Debug)]
pub enum ServerEvent<'a> {
    /// Input used up (or the next request must wait for the answer to this one: its bytes are kept inside).
    NeedMore,
    Head(RequestHead<'a>),
    /// Body bytes, never empty. After a 101 was sent: bytes of the other protocol.
    Data(&'a [u8]),
    /// The request is complete. Not given when its response ended before.
    End {
        /// Empty unless the body was chunked; fields that must not stand in trailers are passed over.
        trailers: Fields<'a>,
    },
}

/// The server's side of one connection: requests in, responses out; keep-alive and pipelining.
///
/// | | request incomplete | request complete |
/// |---|---|---|
/// | no final head sent | `in_body`; interim heads or the final one may be sent | the same |
/// | final head sent | an early response: it carried `Connection: close` | data, end |
/// | response ended | `should_close`; what still comes is dropped | next request, or `should_close` |
///
/// After a refusal nothing more is read, and one response may be sent unless one was started (`response_started`); it
/// carries `Connection: close`.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    intake: Intake,
    exchange: Exchange,
}

/// The open request and its response.
#[derive(Debug)]
struct Exchange {
    stage: Stage,
    turn: Turn,
    http10: bool,
    head_request: bool,
    /// Another request may follow this one.
    keep_alive: bool,
    /// The request asks for another protocol.
    upgrade: bool,
    /// The owner wants the connection to end.
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// No request was given since the last response.
    Idle,
    /// A request was given or refused, and no final head has been sent.
    Due,
    /// The final head was sent.
    Sending(Encoder),
    /// The last response ended.
    Over,
}

impl Server {
    pub fn new(limits: Limits) -> Self {
        let exchange = Exchange {
            stage: Stage::Head,
            turn: Turn::Idle,
            http10: false,
            head_request: false,
            keep_alive: true,
            upgrade: false,
            closing: false,
        };
        Self {
            limits,
            intake: Intake::new(),
            exchange,
        }
    }

    /// Takes plaintext from `input[*used..]`, advances `*used`, gives one event. Call until `NeedMore`, which leaves no
    /// input unused. After a response ended, call once more with empty input: a pipelined request may wait inside.
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        used: &mut usize,
    ) -> Result<ServerEvent<'a>, Refusal> {
        let Self {
            limits,
            intake,
            exchange,
        } = self;
        let next = intake.next(&mut exchange.stage, Section::Request, limits, input, used);
        let event = match next {
            Ok(Next::More) => Ok(ServerEvent::NeedMore),
            Ok(Next::Data(lent)) => Ok(ServerEvent::Data(intake.view(lent, input))),
            Ok(Next::End) => Ok(ServerEvent::End {
                trailers: Fields::default(),
            }),
            Ok(Next::Head(lent)) => head::request(intake.view(lent, input)).map(|(head, notes)| {
                exchange.begin(&head, notes);
                ServerEvent::Head(head)
            }),
            Ok(Next::Trailers(lent)) => head::trailers(intake.view(lent, input))
                .map(|trailers| ServerEvent::End { trailers }),
            Err(refusal) => Err(refusal),
        };
        if event.is_err() {
            exchange.refuse();
        }
        event
    }

    /// Bytes of later requests kept inside; the owner pauses receiving while it is over a few KiB.
    pub fn held(&self) -> usize {
        self.intake.kept()
    }
    #[cfg(test)]
    pub(super) fn buffer_capacity(&self) -> usize {
        self.intake.capacity()
    }
    /// No request is open and nothing is buffered: the connection is idle between requests.
    pub fn is_idle(&self) -> bool {
        self.exchange.turn == Turn::Idle && self.intake.kept() == 0
    }
    /// A head has begun and is not complete (for the slow-head deadline).
    pub fn in_head(&self) -> bool {
        self.exchange.turn == Turn::Idle && self.intake.kept() > 0
    }
    /// The request's body has not ended.
    pub fn in_body(&self) -> bool {
        self.exchange.in_body()
    }
    /// A request head was given (or a request refused) and its response has not ended.
    pub fn awaits_response(&self) -> bool {
        matches!(self.exchange.turn, Turn::Due | Turn::Sending(_))
    }
    /// The final response head of the current request has been sent.
    pub fn response_started(&self) -> bool {
        matches!(self.exchange.turn, Turn::Sending(_) | Turn::Over)
    }
    /// Method of the open request was HEAD.
    pub fn is_head_request(&self) -> bool {
        self.exchange.head_request
    }
    /// Another request may follow the open one.
    pub fn keeps_alive(&self) -> bool {
        self.exchange.keep_alive && !self.exchange.closing
    }
    /// The owner gives up on what is being received (a head that came too slowly): an answer is due, then the end.
    pub fn give_up(&mut self) {
        self.exchange.refuse();
    }
    /// The next response carries `Connection: close` and the connection ends after it; at once when it is idle.
    pub fn close_after_response(&mut self) {
        self.exchange.closing = true;
    }
    /// The response is complete and no further request may follow: flush, shutdown(WR), drain, close.
    pub fn should_close(&self) -> bool {
        self.exchange.turn == Turn::Over || (self.exchange.closing && self.is_idle())
    }

    /// 1xx other than 101, any number of times before the head (assert). Not sent to HTTP/1.0 clients, which know none.
    pub fn send_interim<'f>(
        &mut self,
        out: &mut impl Put,
        status: u16,
        fields: impl IntoIterator<Item = Field<'f>>,
    ) {
        assert!(
            (100..=199).contains(&status) && status != 101,
            "interim status"
        );
        assert!(
            self.exchange.turn == Turn::Due,
            "interim head before the final one"
        );
        if self.exchange.http10 {
            return;
        }
        let mut pen = Pen::new(out);
        let reason: &[u8] = match status {
            100 => b"Continue",
            102 => b"Processing",
            103 => b"Early Hints",
            _ => b"",
        };
        status_line(&mut pen, status, reason);
        write_fields(&mut pen, fields, Keep::default());
        pen.finish();
    }

    /// The final head. Framing and connection fields are this function's: what `fields` holds of them is passed over
    /// (`Transfer-Encoding`, `Connection`, `Keep-Alive`, `TE`, `Upgrade`, `Proxy-Connection`, `Content-Length`), but
    /// what a Connection field of theirs named must not be among them (see [`Fields::end_to_end`]).
    ///
    /// `None` and `Length` give `Content-Length`, `Chunked` chunks (until close for HTTP/1.0), `UntilClose` an end with
    /// the connection. There is no body in answers to HEAD and with 204 and 304, whatever the framing: `send_data` then
    /// drops it, and a `Content-Length` among `fields` of a HEAD or 304 answer is kept unless `framing` gives one.
    ///
    /// With 101 the Upgrade field is kept, and both sides are raw from here on; a 101 to a request that asked for no
    /// upgrade goes out as an empty 502. Status must be 101 or 200–999, and a response due (assert).
    pub fn send_head<'f>(
        &mut self,
        out: &mut impl Put,
        status: u16,
        reason: &[u8],
        fields: impl IntoIterator<Item = Field<'f>>,
        framing: Framing,
    ) {
        assert!(
            status == 101 || (200..=999).contains(&status),
            "final status"
        );
        let exchange = &mut self.exchange;
        assert!(
            exchange.turn == Turn::Due,
            "one final head for each request"
        );
        let (status, reason, framing) = if status == 101 && !exchange.upgrade {
            (502, &b"Bad Gateway"[..], Framing::None)
        } else {
            (status, reason, framing)
        };
        let bodiless = exchange.head_request || matches!(status, 204 | 304);
        let until_close = match framing {
            Framing::UntilClose => true,
            Framing::Chunked => exchange.http10,
            Framing::None | Framing::Length(_) => false,
        };
        // An error before the body's end means that the body is not wanted: the rest is dropped, so no request can be
        // found behind it. Any other early answer may go on beside the body, and decides at its own end.
        let unwanted = exchange.in_body() && status >= 400;
        let close = exchange.closing || unwanted || status == 101 || (until_close && !bodiless);
        exchange.keep_alive &= !close;

        let mut pen = Pen::new(out);
        status_line(&mut pen, status, reason);
        let keep = Keep {
            content_length: bodiless && status != 204 && !matches!(framing, Framing::Length(_)),
            upgrade: status == 101,
        };
        write_fields(&mut pen, fields, keep);
        let encoder = if bodiless {
            if let (Framing::Length(length), false) = (framing, status == 204) {
                pen.content_length(length);
            }
            Encoder::Nothing
        } else if status == 101 {
            exchange.stage = Stage::Body(Decoder::UntilClose);
            Encoder::Raw
        } else {
            match framing {
                Framing::None => write_framing(&mut pen, Framing::Length(0)),
                Framing::Chunked if exchange.http10 => Encoder::Raw,
                framing => write_framing(&mut pen, framing),
            }
        };
        if status != 101 && !exchange.keep_alive {
            pen.write(b"Connection: close\r\n");
        } else if exchange.http10 && exchange.keep_alive {
            pen.write(b"Connection: keep-alive\r\n");
        }
        pen.finish();
        exchange.turn = Turn::Sending(encoder);
    }

    /// Body bytes that `send_data` still takes (`u64::MAX` when no length was promised).
    pub fn room(&self) -> u64 {
        match &self.exchange.turn {
            Turn::Sending(encoder) => encoder.room(),
            _ => 0,
        }
    }

    /// Body bytes of the response. What is over the promised Content-Length comes from another process in the end, so it
    /// is dropped, and `send_end` says false. Before the head or after the end is the caller's bug (assert).
    pub fn send_data(&mut self, out: &mut impl Put, bytes: &[u8]) {
        let Turn::Sending(encoder) = &mut self.exchange.turn else {
            panic!("response data between head and end");
        };
        encoder.data(out, bytes);
    }

    /// Ends the response (last chunk, trailers). False when a Content-Length body was short, or too long: the caller must
    /// abort.
    pub fn send_end<'f>(
        &mut self,
        out: &mut impl Put,
        trailers: impl IntoIterator<Item = Field<'f>>,
    ) -> bool {
        let exchange = &mut self.exchange;
        let Turn::Sending(encoder) = exchange.turn else {
            panic!("response end after its head");
        };
        let whole = encoder.end(out, trailers);
        if whole && exchange.keep_alive && !exchange.in_body() {
            exchange.turn = Turn::Idle;
            exchange.stage = Stage::Head;
        } else {
            exchange.turn = Turn::Over;
            exchange.stage = Stage::Discard;
        }
        whole
    }
}

impl Exchange {
    fn begin(&mut self, head: &RequestHead<'_>, notes: RequestNotes) {
        self.turn = Turn::Due;
        self.http10 = head.http10;
        self.head_request = notes.is_head;
        self.keep_alive = notes.keep_alive;
        self.upgrade = head.upgrade.is_some();
        self.stage = Stage::Body(match head.framing {
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::CHUNKED,
            Framing::None | Framing::UntilClose => Decoder::Length(0),
        });
    }

    fn refuse(&mut self) {
        if self.turn == Turn::Idle {
            self.turn = Turn::Due;
            self.http10 = false;
            self.head_request = false;
            self.upgrade = false;
        }
        self.keep_alive = false;
        self.stage = Stage::Discard;
    }

    fn in_body(&self) -> bool {
        let open = matches!(self.turn, Turn::Due | Turn::Sending(_));
        open && match self.stage {
            Stage::Body(decoder) => !decoder.is_complete(),
            Stage::Trailers => true,
            Stage::Head | Stage::Hold | Stage::Discard => false,
        }
    }
}

fn status_line<P: Put>(pen: &mut Pen<'_, P>, status: u16, reason: &[u8]) {
    pen.write(b"HTTP/1.1 ");
    pen.number(u64::from(status));
    pen.write(b" ");
    if super::fields::is_field_value(reason) {
        pen.write(reason);
    }
    pen.write(b"\r\n");
}
