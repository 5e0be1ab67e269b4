//! `cache-server health`: whether a server takes requests, for containers without an HTTP client.

use anyhow::ensure;
use http::{Method, StatusCode};

use super::admin_client::{self, AdminAddress, AdminClient};
use super::{Failure, print};

/// Who asks for health kills what does not answer within [`admin_client::PATIENCE`].
pub(crate) fn run(options: &AdminAddress) -> Result<(), Failure> {
    let client = AdminClient::new(&options.authority()?, admin_client::PATIENCE);
    let client = client.map_err(Failure::start)?;
    admin_client::run(ready(&client))?;
    print(b"ready\n")
}

async fn ready(client: &AdminClient) -> anyhow::Result<()> {
    let answer = client.ask(Method::GET, "/readyz", None).await?;
    let (address, status) = (client.address(), answer.status);
    ensure!(status == StatusCode::OK, "{address} is not ready: it answers {status}");
    Ok(())
}
