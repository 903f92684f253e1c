//! The client's side of one connection.

use super::body::Decoder;
use super::head::{self, Asked};
use super::intake::{Intake, Next, Stage};
use super::line;
use super::scan::Section;
use super::write::{Encoder, Keep, Pen, write_fields, write_framing};
use super::{Field, Fields, Framing, Limits, Refusal, ResponseHead};
use crate::wire::Put;

#[derive(Clone, Copy, Debug)]
pub enum ClientEvent<'a> {
    /// Input used up.
    NeedMore,
    /// An interim (1xx) head: more heads follow.
    Interim(ResponseHead<'a>),
    Head(ResponseHead<'a>),
    /// Body bytes, never empty. After a 101, or a 2xx to CONNECT: bytes of the other protocol, until the peer finishes.
    Data(&'a [u8]),
    End {
        /// Empty unless the body was chunked; fields that must not stand in trailers are passed over.
        trailers: Fields<'a>,
    },
}

/// The client's side of one connection: one request at a time. Refusals are the upstream's fault, status 502; the
/// connection is of no use after one.
#[derive(Debug)]
pub struct Client {
    limits: Limits,
    intake: Intake,
    exchange: Exchange,
}

#[derive(Debug)]
struct Exchange {
    stage: Stage,
    request: Request,
    answer: Answer,
    asked: Asked,
    /// The peer lets another request follow.
    keep_alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Idle,
    Sending(Encoder),
    /// Ended short: the connection must be aborted.
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// None is due.
    Idle,
    /// The final head is due.
    Due,
    /// The body comes.
    Body,
    /// It could not be read, or was cut short.
    Broken,
}

impl Client {
    pub fn new(limits: Limits) -> Self {
        let exchange = Exchange {
            stage: Stage::Hold,
            request: Request::Idle,
            answer: Answer::Idle,
            asked: Asked::default(),
            keep_alive: true,
        };
        Self {
            limits,
            intake: Intake::new(),
            exchange,
        }
    }

    /// Starts a request; the connection must be reusable (or new). `fields` as for `Server::send_head`, with Host; the
    /// same are passed over. An `Upgrade` field asks for another protocol: it is written, with its Connection option.
    /// Method and target must pass [`super::is_request_line`] (assert); `UntilClose` is for responses only (assert).
    /// `None` gives `Content-Length: 0` with methods that usually have a body.
    pub fn send_head<'f>(
        &mut self,
        out: &mut impl Put,
        method: &[u8],
        target: &[u8],
        fields: impl IntoIterator<Item = Field<'f>>,
        framing: Framing,
    ) {
        assert!(self.is_reusable(), "one request at a time");
        assert!(
            line::is_request_line(method, target),
            "method and target that can be written"
        );
        assert!(framing != Framing::UntilClose, "a request's end is marked");
        let mut pen = Pen::new(out);
        pen.write(method);
        pen.write(b" ");
        pen.write(target);
        pen.write(b" HTTP/1.1\r\n");
        let mut upgrade = false;
        let fields = fields
            .into_iter()
            .inspect(|field| upgrade |= field.name.eq_ignore_ascii_case(b"upgrade"));
        write_fields(
            &mut pen,
            fields,
            Keep {
                content_length: false,
                upgrade: true,
            },
        );
        let encoder = match framing {
            // IIS answers 411 otherwise
            Framing::None if matches!(method, b"POST" | b"PUT" | b"PATCH") => {
                write_framing(&mut pen, Framing::Length(0))
            }
            framing => write_framing(&mut pen, framing),
        };
        pen.finish();
        self.exchange = Exchange {
            stage: Stage::Head,
            request: Request::Sending(encoder),
            answer: Answer::Due,
            asked: Asked {
                head: method == b"HEAD",
                connect: method == b"CONNECT",
                upgrade,
            },
            keep_alive: true,
        };
    }

    /// Body bytes that `send_data` still takes (`u64::MAX` when no length was promised): what a peer sends beyond it is
    /// that peer's fault and must not reach `send_data`.
    pub fn room(&self) -> u64 {
        match &self.exchange.request {
            Request::Sending(encoder) => encoder.room(),
            _ => 0,
        }
    }

    /// Body bytes of the request; raw bytes once the protocol was switched. More than Content-Length promised, or after
    /// the end, is the caller's bug (assert).
    pub fn send_data(&mut self, out: &mut impl Put, bytes: &[u8]) {
        let Request::Sending(encoder) = &mut self.exchange.request else {
            panic!("request data between head and end");
        };
        encoder.data(out, bytes);
    }

    /// Ends the request (last chunk, trailers). False when a Content-Length body is short: the caller must abort the
    /// connection.
    pub fn send_end<'f>(
        &mut self,
        out: &mut impl Put,
        trailers: impl IntoIterator<Item = Field<'f>>,
    ) -> bool {
        let Request::Sending(encoder) = self.exchange.request else {
            panic!("request end after its head");
        };
        let whole = encoder.end(out, trailers);
        self.exchange.request = if whole { Request::Idle } else { Request::Short };
        whole
    }

    /// Takes plaintext from `input[*used..]`, advances `*used`, gives one event. Call until `NeedMore`, which leaves no
    /// input unused. Bytes that belong to no response are refused.
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        used: &mut usize,
    ) -> Result<ClientEvent<'a>, Refusal> {
        let Self {
            limits,
            intake,
            exchange,
        } = self;
        let unasked = exchange.stage == Stage::Hold && *used < input.len();
        if unasked {
            *used = input.len();
        }
        let next = match intake.next(&mut exchange.stage, Section::Response, limits, input, used) {
            _ if unasked => Err(Refusal {
                status: 502,
                why: "bytes that no request asked for",
            }),
            next => next,
        };
        let event = match next {
            Ok(Next::More) => Ok(ClientEvent::NeedMore),
            Ok(Next::Data(lent)) => Ok(ClientEvent::Data(intake.view(lent, input))),
            Ok(Next::End) => {
                exchange.answer = Answer::Idle;
                Ok(ClientEvent::End {
                    trailers: Fields::default(),
                })
            }
            Ok(Next::Head(lent)) => {
                head::response(intake.view(lent, input), exchange.asked).map(|(head, keep)| {
                    exchange.begin(&head, keep);
                    if head.interim {
                        ClientEvent::Interim(head)
                    } else {
                        ClientEvent::Head(head)
                    }
                })
            }
            Ok(Next::Trailers(lent)) => head::trailers(intake.view(lent, input)).map(|trailers| {
                exchange.answer = Answer::Idle;
                ClientEvent::End { trailers }
            }),
            Err(refusal) => Err(refusal),
        };
        event.map_err(|refusal| {
            exchange.fail();
            // to the core it is a bad message, to our client a bad gateway
            Refusal {
                status: 502,
                why: refusal.why,
            }
        })
    }

    /// The peer finished. `Ok(true)`: that ends an until-close body (the response is complete); `Ok(false)`: nothing was
    /// open; `Err`: the response was cut short.
    pub fn finish(&mut self) -> Result<bool, Refusal> {
        let exchange = &mut self.exchange;
        let answer = exchange.answer;
        let until_close = exchange.stage == Stage::Body(Decoder::UntilClose);
        let complete = matches!(exchange.stage, Stage::Body(decoder) if decoder.is_complete());
        exchange.fail();
        match answer {
            Answer::Idle => {
                exchange.answer = Answer::Idle;
                Ok(false)
            }
            Answer::Body if until_close || complete => {
                exchange.answer = Answer::Idle;
                Ok(true)
            }
            Answer::Due if self.intake.kept() == 0 => Err(Refusal {
                status: 502,
                why: "closed without an answer",
            }),
            Answer::Due => Err(Refusal {
                status: 502,
                why: "closed within the answer's head",
            }),
            Answer::Body => Err(Refusal {
                status: 502,
                why: "closed within the answer's body",
            }),
            Answer::Broken => Err(Refusal {
                status: 502,
                why: "closed after an unreadable answer",
            }),
        }
    }

    /// The response ended, the request ended, and the connection may carry another.
    pub fn is_reusable(&self) -> bool {
        self.exchange.request == Request::Idle
            && self.exchange.answer == Answer::Idle
            && self.exchange.keep_alive
    }
}

impl Exchange {
    fn begin(&mut self, head: &ResponseHead<'_>, keep_alive: bool) {
        self.keep_alive &= keep_alive;
        if head.interim {
            return;
        }
        self.answer = Answer::Body;
        self.stage = Stage::Body(match head.framing {
            Framing::None => Decoder::Length(0),
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::CHUNKED,
            Framing::UntilClose => Decoder::UntilClose,
        });
        let switched =
            head.status == 101 || (self.asked.connect && head.framing == Framing::UntilClose);
        if switched {
            self.request = Request::Sending(Encoder::Raw);
        }
    }

    fn fail(&mut self) {
        self.keep_alive = false;
        self.answer = Answer::Broken;
        self.stage = Stage::Discard;
    }
}
