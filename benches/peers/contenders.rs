//! Who is measured: a server, what it is asked, and where its answers must come from.

use std::net::SocketAddr;

use crate::load::job::{Expected, Mix, Numbers, Protocol};
use crate::products::{Nginx, Varnish};
use crate::shared::exchange::{ANSWER_BYTES, Question};
use crate::shared::process::Server;
use crate::stage::Stage;

/// A whole answer that is reused.
pub(crate) const REUSED: Question = Question { reusable: true, stream: false, delay_ms: 0 };
/// Callers of HTTP/2 on each connection.
pub(crate) const STREAMS: u64 = 4;

/// Where a server is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door<'s> {
    pub(crate) server: &'s Server,
    /// One of its addresses.
    pub(crate) address: SocketAddr,
}

/// Someone who is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender<'s> {
    /// As the table calls it.
    pub(crate) name: &'static str,
    /// Who answers; a peer may not be installed.
    pub(crate) door: Option<Door<'s>>,
    /// How it is spoken to.
    pub(crate) protocol: Protocol,
    /// What is asked.
    pub(crate) question: Question,
    /// Bytes of a whole answer.
    pub(crate) answer_bytes: usize,
    /// Which prompts.
    pub(crate) prompts: Prompts,
    /// Where the answers must come from.
    pub(crate) expected: Expected,
}

/// Which prompts a contender is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prompts {
    /// These, in every round.
    These(Numbers),
    /// New ones with every question.
    New,
    /// One new one in every round.
    OneNew,
    /// These by Zipf's law, and new ones among them: so many of a hundred, from where their answers
    /// must come.
    Mixed { stored: Numbers, new_percent: u8, expected: Expected },
}

impl Prompts {
    /// What a job is told of them.
    pub(crate) fn chosen(self, stage: &Stage) -> (Numbers, Option<Mix>) {
        match self {
            Prompts::These(numbers) => (numbers, None),
            Prompts::New => (stage.new_numbers(), None),
            Prompts::OneNew => (Numbers { count: 1, ..stage.new_numbers() }, None),
            Prompts::Mixed { stored, new_percent, expected } => {
                (stored, Some(Mix { new_percent, new: stage.new_numbers(), expected }))
            }
        }
    }
}

impl<'s> Contender<'s> {
    /// A whole answer of the usual size that is reused, by HTTP/1.1; others say what differs.
    pub(crate) fn new(
        name: &'static str,
        door: Option<Door<'s>>,
        prompts: Prompts,
        expected: Expected,
    ) -> Contender<'s> {
        let (protocol, answer_bytes) = (Protocol::Http1, ANSWER_BYTES);
        Contender { name, door, protocol, question: REUSED, answer_bytes, prompts, expected }
    }

    /// The same with another question.
    pub(crate) fn asking(self, question: Question) -> Contender<'s> {
        Contender { question, ..self }
    }

    /// The same with answers of this size.
    pub(crate) fn answering(self, answer_bytes: usize) -> Contender<'s> {
        Contender { answer_bytes, ..self }
    }

    /// The same by HTTP/2.
    pub(crate) fn by_http2(self) -> Contender<'s> {
        Contender { protocol: Protocol::Http2 { streams: STREAMS }, ..self }
    }

    /// Its name in the table.
    pub(crate) fn shown(&self) -> String {
        match self.door {
            Some(_) => self.name.into(),
            None => format!("{}: not installed", self.name),
        }
    }
}

/// The front door of a server.
pub(crate) fn front(server: &Server) -> Option<Door<'_>> {
    Some(Door { server, address: server.address })
}

/// One of nginx's doors, if it is installed.
pub(crate) fn nginx(stage: &Stage, address: fn(&Nginx) -> SocketAddr) -> Option<Door<'_>> {
    let nginx = stage.nginx.as_ref()?;
    Some(Door { server: &nginx.server, address: address(nginx) })
}

/// The door of nginx's cache by HTTP/1.1.
pub(crate) fn nginx_cache(stage: &Stage) -> Option<Door<'_>> {
    nginx(stage, |nginx| nginx.server.address)
}

/// Varnish's door, if it is there.
pub(crate) fn varnish(stage: &Stage) -> Option<Door<'_>> {
    match &stage.varnish {
        Varnish::Runs(server) => front(server),
        Varnish::NotInstalled | Varnish::WithoutModule => None,
    }
}
