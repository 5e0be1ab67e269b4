//! Carries foyer's own metrics (queue depths, disk operations, drops) into our recorder.
//!
//! foyer speaks `mixtrics`, which has no adapter for `metrics`; this is one. Its label sets are
//! fixed inside foyer, and so bounded.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;
use mixtrics::metrics::{
    BoxedCounter, BoxedCounterVec, BoxedGauge, BoxedGaugeVec, BoxedHistogram, BoxedHistogramVec,
    CounterOps, CounterVecOps, GaugeOps, GaugeVecOps, HistogramOps, HistogramVecOps, RegistryOps,
};

/// A mixtrics registry that registers with the server's recorder.
#[derive(Clone)]
pub struct Registry(pub Arc<PrometheusRecorder>);

/// One named metric of foyer's and its label names.
#[derive(Clone)]
struct Family {
    registry: Registry,
    name: Cow<'static, str>,
    label_names: &'static [&'static str],
}

/// A handle; wrapped because mixtrics wants `Debug`.
struct Handle<T>(T);

const METADATA: Metadata<'static> =
    Metadata::new("cache_server::telemetry::foyer", Level::INFO, None);

impl Family {
    fn key(&self, values: &[Cow<'static, str>]) -> Key {
        let labels: Vec<Label> = self
            .label_names
            .iter()
            .zip(values)
            .map(|(name, value)| Label::new(*name, value.clone()))
            .collect();
        Key::from_parts(self.name.clone(), labels)
    }
}

impl Registry {
    fn family(&self, name: Cow<'static, str>, label_names: &'static [&'static str]) -> Box<Family> {
        Box::new(Family { registry: self.clone(), name, label_names })
    }
}

impl RegistryOps for Registry {
    fn register_counter_vec(
        &self,
        name: Cow<'static, str>,
        desc: Cow<'static, str>,
        label_names: &'static [&'static str],
    ) -> BoxedCounterVec {
        self.0.describe_counter(KeyName::from(name.clone()), None, desc.into());
        self.family(name, label_names)
    }

    fn register_gauge_vec(
        &self,
        name: Cow<'static, str>,
        desc: Cow<'static, str>,
        label_names: &'static [&'static str],
    ) -> BoxedGaugeVec {
        self.0.describe_gauge(KeyName::from(name.clone()), None, desc.into());
        self.family(name, label_names)
    }

    fn register_histogram_vec(
        &self,
        name: Cow<'static, str>,
        desc: Cow<'static, str>,
        label_names: &'static [&'static str],
    ) -> BoxedHistogramVec {
        self.0.describe_histogram(KeyName::from(name.clone()), None, desc.into());
        self.family(name, label_names)
    }

    fn register_histogram_vec_with_buckets(
        &self,
        name: Cow<'static, str>,
        desc: Cow<'static, str>,
        label_names: &'static [&'static str],
        _buckets: Vec<f64>,
    ) -> BoxedHistogramVec {
        // The recorder has one set of buckets for all histograms.
        self.register_histogram_vec(name, desc, label_names)
    }
}

impl CounterVecOps for Family {
    fn counter(&self, labels: &[Cow<'static, str>]) -> BoxedCounter {
        Box::new(Handle(self.registry.0.register_counter(&self.key(labels), &METADATA)))
    }
}

impl GaugeVecOps for Family {
    fn gauge(&self, labels: &[Cow<'static, str>]) -> BoxedGauge {
        Box::new(Handle(self.registry.0.register_gauge(&self.key(labels), &METADATA)))
    }
}

impl HistogramVecOps for Family {
    fn histogram(&self, labels: &[Cow<'static, str>]) -> BoxedHistogram {
        Box::new(Handle(self.registry.0.register_histogram(&self.key(labels), &METADATA)))
    }
}

impl CounterOps for Handle<metrics::Counter> {
    fn increase(&self, by: u64) {
        self.0.increment(by);
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; sizes stay far below 2^53")]
impl GaugeOps for Handle<metrics::Gauge> {
    fn increase(&self, by: u64) {
        self.0.increment(by as f64);
    }

    fn decrease(&self, by: u64) {
        self.0.decrement(by as f64);
    }

    fn absolute(&self, to: u64) {
        self.0.set(to as f64);
    }
}

impl HistogramOps for Handle<metrics::Histogram> {
    fn record(&self, value: f64) {
        self.0.record(value);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}
