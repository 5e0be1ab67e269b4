//! The entry's binary form: written, read from the disk's buffer, and read from a whole value.

use std::hint::black_box;

use anyhow::ensure;
use bytes::Bytes;
use cache_server::cache::entry::Entry;
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::NOW;
use crate::entries::{self, Bodies};

/// A usual answer, and one whose bytes a whole value keeps where they are.
const BODIES: [(&str, usize); 2] = [("2.8 KB", 2_800), ("64 KB", 64 << 10)];
const BODY_BYTES_MAX: u64 = 1 << 20;

/// Measures writing and both ways of reading.
pub(crate) fn measure(criterion: &mut Criterion) -> anyhow::Result<()> {
    for (name, bytes) in BODIES {
        let entry = entries::entry(1, Bodies::Chat.body(1, bytes), NOW);
        let mut form = Vec::new();
        entry.write_to(&mut form)?;
        let form = Bytes::from(form);
        ensure!(read_from(&form)? == entry && read_whole(&form)? == entry, "it is read otherwise");
        let mut group = criterion.benchmark_group("entry");
        group.throughput(Throughput::Bytes(bytes as u64));
        let mut room = Vec::with_capacity(form.len());
        group.bench_function(BenchmarkId::new("write_to", name), |bencher| {
            bencher.iter(|| {
                room.clear();
                black_box(&entry).write_to(&mut room)
            });
        });
        group.bench_function(BenchmarkId::new("read_from", name), |bencher| {
            bencher.iter(|| read_from(black_box(&form)));
        });
        group.bench_function(BenchmarkId::new("read_whole", name), |bencher| {
            bencher.iter(|| read_whole(black_box(&form)));
        });
        group.finish();
    }
    Ok(())
}

fn read_from(form: &Bytes) -> std::io::Result<Entry> {
    Entry::read_from(&mut &form[..], BODY_BYTES_MAX)
}

fn read_whole(form: &Bytes) -> std::io::Result<Entry> {
    Entry::read_whole(form, BODY_BYTES_MAX)
}
