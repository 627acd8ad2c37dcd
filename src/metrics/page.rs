//! One page: what is recorded, and what is at this moment.

use metrics::{SharedString, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

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

/// What is read for one scrape.
pub(super) struct Page(PrometheusRecorder);

impl Page {
    pub(super) fn new() -> Self {
        Self(PrometheusBuilder::new().build_recorder())
    }

    /// A number that goes up and down. Above 2^53 it is rounded.
    pub(super) fn gauge(&self, family: Family, value: u64) {
        self.number(family, value as f64);
    }

    /// 1 or 0.
    pub(super) fn flag(&self, family: Family, value: bool) {
        self.gauge(family, u64::from(value));
    }

    pub(super) fn number(&self, Family { name, help }: Family, value: f64) {
        with_local_recorder(&self.0, || {
            describe_gauge!(name, help);
            gauge!(name).set(value);
        });
    }

    /// One of several series, told apart by a label.
    pub(super) fn gauge_of(
        &self,
        Family { name, help }: Family,
        label: (&'static str, impl Into<SharedString>),
        value: u64,
    ) {
        with_local_recorder(&self.0, || {
            describe_gauge!(name, help);
            gauge!(name, label.0 => label.1.into()).set(value as f64);
        });
    }

    /// A number that only rises while the process runs.
    pub(super) fn counter(&self, Family { name, help }: Family, value: u64) {
        with_local_recorder(&self.0, || {
            describe_counter!(name, help);
            counter!(name).absolute(value);
        });
    }

    pub(super) fn counter_of(
        &self,
        Family { name, help }: Family,
        label: (&'static str, impl Into<SharedString>),
        value: u64,
    ) {
        with_local_recorder(&self.0, || {
            describe_counter!(name, help);
            counter!(name, label.0 => label.1.into()).absolute(value);
        });
    }

    /// With what else is recorded, in the order of the names: two pages can be compared.
    pub(super) fn text(self, recorded: &str) -> String {
        let own = self.0.handle().render();
        let families = own.split("\n\n").chain(recorded.split("\n\n"));
        let mut families: Vec<String> = families.filter(|family| !family.trim().is_empty()).map(in_order).collect();
        families.sort_unstable();
        families.concat()
    }
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
        let page = Page::new();
        page.counter_of(family("b_total", "Some \"b\"."), ("kind", "y"), 7);
        page.counter_of(family("b_total", "Some \"b\"."), ("kind", "x"), 3);
        page.number(family("a_seconds", "Some a."), 0.25);
        page.gauge(family("c_msat", "Much."), 1 << 50);
        let recorded = "# HELP aa_total Recorded.\n# TYPE aa_total counter\naa_total 1\n\n";
        assert_eq!(
            page.text(recorded),
            "# HELP a_seconds Some a.\n# TYPE a_seconds gauge\na_seconds 0.25\n\
             # HELP aa_total Recorded.\n# TYPE aa_total counter\naa_total 1\n\
             # HELP b_total Some \"b\".\n# TYPE b_total counter\nb_total{kind=\"x\"} 3\nb_total{kind=\"y\"} 7\n\
             # HELP c_msat Much.\n# TYPE c_msat gauge\nc_msat 1125899906842624\n"
        );
    }

    #[test]
    fn an_empty_page_is_empty() {
        assert_eq!(Page::new().text(""), "");
    }
}
