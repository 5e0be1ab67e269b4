//! Traced: the life of a request's span, from the request's header to the end of its answer's
//! body. Requests without a trace do not come here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body::{AnswerBody, BoxError};
use super::deadline::Deadline;
use crate::app::App;
use crate::telemetry::trace::{Answered, RequestTrace};
use crate::telemetry::{Outcome, TierName};

/// Answers a request and sees to it that its span ends when the answer does.
pub async fn answer(
    app: &Arc<App>,
    request: Request<Incoming>,
    trace: RequestTrace,
    deadline: Deadline,
) -> Response<AnswerBody> {
    let is_head = request.method() == Method::HEAD;
    // Made before the wait: a caller that hangs up meanwhile drops this future.
    let span = OpenSpan::new(trace.clone(), is_head, deadline.clone());
    let response = super::answer(app, request, trace, deadline).await;
    span.until_sent(response)
}

/// The response, with word for the request's span of how it came about, if there are spans.
/// `reason` is a word of this program, or empty.
pub fn told(
    is_traced: bool,
    mut response: Response<AnswerBody>,
    outcome: Outcome,
    reason: &'static str,
    tier: Option<TierName>,
) -> Response<AnswerBody> {
    if is_traced {
        response.extensions_mut().insert(Answered { outcome, reason, tier });
    }
    response
}

/// The span of a request that is not yet answered in full. Dropping it before the end means that
/// the answer was cut.
#[derive(Debug)]
pub struct OpenSpan {
    trace: RequestTrace,
    is_head: bool,
    deadline: Deadline,
    has_error: bool,
    ended: bool,
}

impl OpenSpan {
    fn new(trace: RequestTrace, is_head: bool, deadline: Deadline) -> OpenSpan {
        OpenSpan { trace, is_head, deadline, has_error: false, ended: false }
    }

    /// Goes with the answer, and ends when that is sent.
    pub fn until_sent(mut self, mut response: Response<AnswerBody>) -> Response<AnswerBody> {
        let answered: Option<Answered> = response.extensions_mut().remove();
        self.has_error = self.trace.note_answer(response.status(), answered.as_ref());
        let left = bytes_to_send(&response, self.is_head);
        response.map(|body| AnswerBody::Traced(Box::new(TracedBody { body, left, span: self })))
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.trace.end();
        }
    }

    fn end_cut(&mut self, why: &'static str) {
        if !self.ended {
            self.ended = true;
            self.trace.end_cut(Some(why).filter(|_| !self.has_error));
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        let (trace, is_head) = (&self.trace, self.is_head);
        let anew = || OpenSpan::new(trace.clone(), is_head, Deadline::default());
        if self.ended || self.deadline.takes_span(anew) {
            return;
        }
        let why = if self.deadline.has_passed() { "request-timeout" } else { "caller-gone" };
        self.end_cut(why);
    }
}

/// How long the body is that goes out, if that is known: hyper does not ask for the end of one
/// whose declared length it has sent, and not at all for one that is not sent.
fn bytes_to_send(response: &Response<AnswerBody>, is_head: bool) -> Option<u64> {
    if is_head || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Some(0);
    }
    let declared = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    declared.and_then(|length| length.parse().ok()).or(response.body().size_hint().exact())
}

/// An answer's body, with the span that ends with it.
pub struct TracedBody {
    body: AnswerBody,
    left: Option<u64>,
    span: OpenSpan,
}

impl Body for TracedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.span.end(),
            Some(Err(_)) => self.span.end_cut("answer-cut"),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(bytes));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TracedBody {
    fn drop(&mut self) {
        let is_sent = self.left == Some(0) || self.body.is_end_stream();
        // First the body, which may hold the span of a fetch: no step outlasts the request.
        self.body = AnswerBody::Whole(None);
        if is_sent {
            self.span.end();
        }
    }
}
