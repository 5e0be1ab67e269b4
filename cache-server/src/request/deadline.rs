//! The time that one exchange may take altogether, from its head to the end of its answer
//! (`server.request_timeout`, where it is set).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::body::{AnswerBody, BoxError};
use super::line::{Facts, Line};
use super::rejection::ListenerRejection;
use super::respond;
use super::traced::OpenSpan;
use crate::app::App;
use crate::clock::Clock;
use crate::telemetry::Outcome;

/// Answers one request of the data listener, in time where a time is set: before the head of its
/// answer it becomes a refusal, after it the answer is broken off. A fill goes on either way.
pub async fn serve(app: &Arc<App>, request: Request<Incoming>) -> Response<TimedBody> {
    let Some(within) = app.settings().server.request_timeout else {
        let response = super::serve(app, request, Deadline::default()).await;
        return response.map(|body| TimedBody { body, timer: None });
    };
    let received = app.clock.instant();
    let due = Instant::now() + within;
    let deadline = Deadline::at(received + within, app.clock.clone());
    let mut answer = Box::pin(super::serve(app, request, deadline.clone()));
    if let Ok(response) = tokio::time::timeout_at(due, &mut answer).await {
        let timer = Some(Box::pin(tokio::time::sleep_until(due)));
        return response.map(|body| TimedBody { body, timer });
    }
    let CalledOff { facts, span } = deadline.call_off(answer);
    let nothing = || Facts { received, route: None, model: None, deadline: Deadline::default() };
    let line = Line::begin(app, facts.unwrap_or_else(nothing), Outcome::Refused);
    let rejection = ListenerRejection::RequestTimeout { within };
    let response = respond::reject(line, rejection.into());
    let response = match span {
        Some(span) => span.until_sent(response),
        None => response,
    };
    response.map(|body| TimedBody { body, timer: None })
}

/// When an exchange is over, for those who tell how it ended: what our own bound cuts was not cut
/// by the caller.
#[derive(Clone, Debug, Default)]
pub struct Deadline(Option<Arc<Due>>);

#[derive(Debug)]
struct Due {
    at: std::time::Instant,
    clock: Clock,
    is_called_off: AtomicBool,
    left: Mutex<CalledOff>,
}

/// What an exchange that is called off leaves to the refusal that takes its place.
#[derive(Debug, Default)]
struct CalledOff {
    facts: Option<Facts>,
    span: Option<OpenSpan>,
}

impl Deadline {
    fn at(at: std::time::Instant, clock: Clock) -> Deadline {
        let (is_called_off, left) = (AtomicBool::new(false), Mutex::default());
        Deadline(Some(Arc::new(Due { at, clock, is_called_off, left })))
    }

    /// Whether it has passed.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.0.as_ref().is_some_and(|due| due.clock.instant() >= due.at)
    }

    /// Ends an exchange that has no answer yet.
    fn call_off<T>(&self, answer: T) -> CalledOff {
        let Some(due) = &self.0 else { return CalledOff::default() };
        due.is_called_off.store(true, Ordering::Relaxed);
        drop(answer);
        std::mem::take(&mut *due.left())
    }

    /// Takes what is known of an exchange, if it is being called off: nobody else tells of it then.
    pub fn takes_facts(&self, facts: impl FnOnce() -> Facts) -> bool {
        self.when_called_off(|left| left.facts = Some(facts()))
    }

    /// The same for its span.
    pub fn takes_span(&self, span: impl FnOnce() -> OpenSpan) -> bool {
        self.when_called_off(|left| left.span = Some(span()))
    }

    fn when_called_off(&self, leave: impl FnOnce(&mut CalledOff)) -> bool {
        let Some(due) = self.0.as_ref().filter(|due| due.is_called_off.load(Ordering::Relaxed))
        else {
            return false;
        };
        leave(&mut due.left());
        true
    }
}

impl Due {
    fn left(&self) -> MutexGuard<'_, CalledOff> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer's body that breaks off when its time is over, and never looks whole then.
pub struct TimedBody {
    body: AnswerBody,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err("the answer took longer than it may".into())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::BodyExt;
    use std::time::Duration;

    fn in_time(body: AnswerBody, seconds: u64) -> TimedBody {
        let timer = tokio::time::sleep(Duration::from_secs(seconds));
        TimedBody { body, timer: Some(Box::pin(timer)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_goes_on_too_long_ends_with_an_error() {
        let drip = stream::unfold(0_u8, |count| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok(Frame::data(Bytes::from(vec![count]))), count + 1))
        });
        let mut body = in_time(AnswerBody::Flight(Box::pin(drip)), 10);
        let start = Instant::now();
        let mut pieces = 0;
        let error = loop {
            match body.frame().await.expect("it never ends cleanly") {
                Ok(_) => pieces += 1,
                Err(error) => break error,
            }
        };
        assert!((9..=10).contains(&pieces), "{pieces}");
        assert_eq!(error.to_string(), "the answer took longer than it may");
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_in_time_arrives_whole() {
        let body = in_time(AnswerBody::whole(Bytes::from_static(b"whole")), 10);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
    }
}
