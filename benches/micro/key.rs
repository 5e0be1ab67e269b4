//! The key: what a body means, read anew with its digest and without, and remembered from before.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Context;
use cache_server::cache::memo::Memo;
use criterion::{Criterion, Throughput};
use keyspec::{BodyFacts, OpenBody, TenantScope};

use crate::bodies::Body;

/// Room for more bodies than there are.
const MEMO_BYTES: usize = 1 << 20;

/// Measures the ways to the meaning of a chat completion of 2 KB.
pub(crate) fn measure(criterion: &mut Criterion) -> anyhow::Result<()> {
    let chat = Body::all().into_iter().find(|body| body.name == "chat");
    let Body { spec, bytes: body, .. } = chat.context("there is no chat completion")?;
    let (spec, tenant) = (Arc::new(spec), TenantScope::Named("team-a".into()));
    let memo = Memo::new(MEMO_BYTES);
    let wants = |_: &BodyFacts| Ok::<_, ()>(());
    memo.read(&tenant, &spec, &body, wants)?;
    let mut group = criterion.benchmark_group("key");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("body read", |bencher| bencher.iter(|| spec.read(black_box(&body))));
    group.bench_function("body read, no key wanted", |bencher| {
        bencher.iter(|| spec.open(None, black_box(&body)).map(OpenBody::into_facts));
    });
    group.bench_function("body remembered", |bencher| {
        bencher.iter(|| memo.read(&tenant, &spec, black_box(&body), wants));
    });
    group.finish();
    Ok(())
}
