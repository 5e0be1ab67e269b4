//! Bodies of requests to the admin listener: read whole, within a bound and a deadline.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::Refused;
use crate::app::App;

/// Reads a body of at most `bytes_max`, within `server.body_timeout`.
///
/// # Errors
/// When it is larger, breaks off, or does not come in time.
pub async fn read(app: &App, body: Body, bytes_max: usize) -> Result<Bytes, Refused> {
    let body = Limited::new(body, bytes_max).collect();
    let Ok(read) = tokio::time::timeout(app.settings().server.body_timeout, body).await else {
        return Err(Refused::BodyTimeout);
    };
    let read = read.map_err(|error| {
        let too_large = error.downcast_ref::<LengthLimitError>().is_some();
        if too_large { Refused::BodyTooLarge { bytes_max } } else { Refused::BodyBroken }
    });
    Ok(read?.to_bytes())
}

/// Reads a body that is a JSON object of this form.
///
/// # Errors
/// As [`read`], and when it is something else: what is wrong is named.
pub async fn read_json<T: DeserializeOwned>(
    app: &App,
    body: Body,
    bytes_max: usize,
) -> Result<T, Refused> {
    let bytes = read(app, body, bytes_max).await?;
    // A list would be taken for the members in the order of their declaration, which is no contract.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(Refused::BadBody("the body must be a JSON object".into()));
    }
    serde_json::from_slice(&bytes).map_err(|error| Refused::BadBody(error.to_string()))
}
