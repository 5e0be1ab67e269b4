//! Pass: takes a request past the cache, as a stream both ways.

use std::sync::Arc;

use http::Response;

use super::body::AnswerBody;
use super::key::Unkeyed;
use super::rejection::Rejection;
use super::respond;
use crate::app::App;
use crate::upstream::fields;

/// Passes a request through, past the cache; its end is the caller's end.
pub async fn through(app: &Arc<App>, unkeyed: Unkeyed) -> Response<AnswerBody> {
    let Unkeyed { mut asked, cause, body } = unkeyed;
    let route = asked.route();
    if asked.directives.only_if_cached {
        return respond::reject(app, route, Rejection::OnlyIfCached);
    }
    let fault = body.fault();
    let mut headers = std::mem::take(&mut asked.headers);
    fields::prepare_request(&mut headers);
    let body = reqwest::Body::wrap(body);
    let answer = asked.upstream.send(asked.method.clone(), &asked.target, headers, body).await;
    match (answer, fault.get()) {
        (_, Some(fault)) => respond::reject(app, route, Rejection::from_fault(fault, &app.server)),
        (Err(error), None) => respond::upstream_failed(app, route, &error),
        (Ok(answer), None) => respond::passed(app, &asked, &cause, answer),
    }
}
