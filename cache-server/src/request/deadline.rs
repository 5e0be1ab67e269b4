//! The time that one exchange may take altogether, from its head to the end of its answer
//! (`server.request_timeout`, where it is set).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
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
use crate::app::App;
use crate::telemetry::Outcome;

/// Answers one request of the data listener, in time where a time is set: before the head of its
/// answer it becomes a refusal, after it the answer is broken off. A fill goes on either way.
pub async fn serve(app: &Arc<App>, request: Request<Incoming>) -> Response<TimedBody> {
    let Some(within) = app.settings().server.request_timeout else {
        return super::serve(app, request).await.map(|body| TimedBody { body, timer: None });
    };
    let received = app.clock.instant();
    let deadline = Instant::now() + within;
    let answer = Box::pin(super::serve(app, request));
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(response) => response.map(|body| {
            let timer = Some(Box::pin(tokio::time::sleep_until(deadline)));
            TimedBody { body, timer }
        }),
        Err(_elapsed) => {
            let rejection = ListenerRejection::RequestTimeout { within };
            let facts = Facts { received, route: None, model: None };
            let line = Line::begin(app, facts, Outcome::Refused);
            let response = respond::reject(line, rejection.into());
            response.map(|body| TimedBody { body, timer: None })
        }
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
