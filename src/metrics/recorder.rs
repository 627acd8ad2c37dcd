//! The recorder of the process: what [`crate::counters`] counts.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::time::sleep;

use crate::counters;

/// How often measured times are sorted into their buckets. Until then each of them takes 24 bytes: some thousand commits a
/// second make a megabyte.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    #[error(transparent)]
    Buckets(#[from] BuildError),
    #[error("something else in this process records metrics already")]
    Taken,
}

/// What has been recorded. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Recorded(PrometheusHandle);

/// Begins to record, once in a process: before anything happens that is to be counted.
pub(crate) fn install() -> Result<Recorded, RecorderError> {
    let mut builder = PrometheusBuilder::new();
    for histogram in counters::histograms() {
        builder = builder.set_buckets_for_metric(Matcher::Full(histogram.name.to_owned()), histogram.bounds)?;
    }
    let recorder = builder.build_recorder();
    let recorded = Recorded(recorder.handle());
    metrics::set_global_recorder(recorder).map_err(|_| RecorderError::Taken)?;
    Ok(recorded)
}

impl Recorded {
    /// As text for Prometheus.
    pub(super) fn text(&self) -> String {
        self.0.render()
    }

    /// Keeps what has been measured small, for ever.
    pub(super) async fn keep_small(&self) {
        loop {
            sleep(UPKEEP_INTERVAL).await;
            self.0.run_upkeep();
        }
    }
}
