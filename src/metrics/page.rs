//! One page: what is recorded, and what is at this moment.

use metrics::{SharedString, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use crate::counters::NETWORK;

/// A family of series: its name, and what it tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub name: &'static str,
    pub help: &'static str,
}

/// Shorthand for the tables of the groups.
pub(super) const fn family(name: &'static str, help: &'static str) -> Family {
    Family { name, help }
}

/// What is read of one network for one scrape.
pub(super) struct Page<'a> {
    recorder: &'a PrometheusRecorder,
    /// The second network's name, which its series carry.
    network: Option<SharedString>,
}

type Label = (&'static str, SharedString);

impl<'a> Page<'a> {
    /// Of the first network, or of the second by its name.
    pub(super) fn new(recorder: &'a PrometheusRecorder, second: Option<&str>) -> Self {
        Self { recorder, network: second.map(|name| SharedString::from_owned(name.to_owned())) }
    }

    /// Whether this is of the first network, whose page also tells what there is once in a process.
    pub(super) fn is_first(&self) -> bool {
        self.network.is_none()
    }

    fn labels(&self, label: Option<Label>) -> Vec<metrics::Label> {
        let network = self.network.clone().map(|network| (NETWORK, network));
        label.into_iter().chain(network).map(|(key, value)| metrics::Label::new(key, value)).collect()
    }

    /// A number that goes up and down. Above 2^53 it is rounded.
    pub(super) fn gauge(&self, family: Family, value: u64) {
        self.number(family, value as f64);
    }

    /// 1 or 0.
    pub(super) fn flag(&self, family: Family, value: bool) {
        self.gauge(family, u64::from(value));
    }

    pub(super) fn number(&self, family: Family, value: f64) {
        self.set(family, None, value);
    }

    /// One of several series, told apart by a label.
    pub(super) fn gauge_of(&self, family: Family, label: (&'static str, impl Into<SharedString>), value: u64) {
        self.set(family, Some((label.0, label.1.into())), value as f64);
    }

    fn set(&self, Family { name, help }: Family, label: Option<Label>, value: f64) {
        with_local_recorder(self.recorder, || {
            describe_gauge!(name, help);
            gauge!(name, self.labels(label)).set(value);
        });
    }

    /// A number that only rises while the process runs.
    pub(super) fn counter(&self, family: Family, value: u64) {
        self.raise(family, None, value);
    }

    /// One of several such numbers, told apart by a label.
    pub(super) fn counter_of(&self, family: Family, label: (&'static str, impl Into<SharedString>), value: u64) {
        self.raise(family, Some((label.0, label.1.into())), value);
    }

    fn raise(&self, Family { name, help }: Family, label: Option<Label>, value: u64) {
        with_local_recorder(self.recorder, || {
            describe_counter!(name, help);
            counter!(name, self.labels(label)).absolute(value);
        });
    }
}

/// A recorder for one scrape.
pub(super) fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new().build_recorder()
}

/// What was read, with what else is recorded, in the order of the names: two pages can be compared.
pub(super) fn text(read: &PrometheusRecorder, recorded: &str) -> String {
    let own = read.handle().render();
    let families = own.split("\n\n").chain(recorded.split("\n\n"));
    let mut families: Vec<String> = families.filter(|family| !family.trim().is_empty()).map(in_order).collect();
    families.sort_unstable();
    families.concat()
}

/// A family with its series in order; the buckets of a histogram have theirs already.
fn in_order(family: &str) -> String {
    let mut lines: Vec<&str> = family.trim_end().lines().collect();
    let first = lines.iter().position(|line| !line.starts_with('#')).unwrap_or(lines.len());
    let is_histogram = lines.iter().any(|line| line.starts_with("# TYPE") && line.ends_with("histogram"));
    if !is_histogram && let Some(series) = lines.get_mut(first..) {
        series.sort_unstable();
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_in_order_with_their_help_and_kind() {
        let recorder = recorder();
        let page = Page::new(&recorder, None);
        page.counter_of(family("b_total", "Some \"b\"."), ("kind", "y"), 7);
        page.counter_of(family("b_total", "Some \"b\"."), ("kind", "x"), 3);
        page.number(family("a_seconds", "Some a."), 0.25);
        page.gauge(family("c_msat", "Much."), 1 << 50);
        let recorded = "# HELP aa_total Recorded.\n# TYPE aa_total counter\naa_total 1\n\n";
        assert_eq!(
            text(&recorder, recorded),
            "# HELP a_seconds Some a.\n# TYPE a_seconds gauge\na_seconds 0.25\n\
             # HELP aa_total Recorded.\n# TYPE aa_total counter\naa_total 1\n\
             # HELP b_total Some \"b\".\n# TYPE b_total counter\nb_total{kind=\"x\"} 3\nb_total{kind=\"y\"} 7\n\
             # HELP c_msat Much.\n# TYPE c_msat gauge\nc_msat 1125899906842624\n"
        );
    }

    #[test]
    fn what_is_read_of_the_second_network_carries_its_name() {
        let recorder = recorder();
        let (first, second) = (Page::new(&recorder, None), Page::new(&recorder, Some("south")));
        assert!(first.is_first() && !second.is_first());
        for (page, value) in [(&first, 1), (&second, 2)] {
            page.gauge(family("a", "Some a."), value);
            page.gauge_of(family("b", "Some b."), ("kind", "x"), value);
        }
        assert_eq!(
            text(&recorder, ""),
            "# HELP a Some a.\n# TYPE a gauge\na 1\na{network=\"south\"} 2\n\
             # HELP b Some b.\n# TYPE b gauge\nb{kind=\"x\",network=\"south\"} 2\nb{kind=\"x\"} 1\n"
        );
    }

    #[test]
    fn an_empty_page_is_empty() {
        assert_eq!(text(&recorder(), ""), "");
    }
}
