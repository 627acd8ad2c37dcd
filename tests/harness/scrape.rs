//! What a collector of metrics does: it asks for the page, and reads it by the rules of Prometheus' text format, version 0.0.4.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A page that keeps to the rules.
#[derive(Debug)]
pub struct Scraped {
    pub text: String,
    samples: BTreeMap<String, f64>,
}

/// The status line with the headers, and the body, of a request without one.
pub async fn request(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}"));
    (head.to_owned(), body.to_owned())
}

pub async fn scrape(address: SocketAddr) -> Scraped {
    let (head, text) = request(address, "GET", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    Scraped::parse(text)
}

impl Scraped {
    /// Panics where a rule is broken.
    pub fn parse(text: String) -> Self {
        assert!(text.ends_with('\n'));
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        let mut family: Option<(String, String)> = None;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("words of help");
                assert!(!words.is_empty() && is_name(name), "{line}");
                let kind = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")));
                let kind = kind.unwrap_or_else(|| panic!("{name} has no type"));
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                family = Some((name.to_owned(), kind.to_owned()));
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let (name, kind) = family.as_ref().expect("a family before its samples");
            let (own, labels) = series.split_once('{').unwrap_or((series, "}"));
            let is_own = match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| own == format!("{name}{end}")),
                "counter" | "gauge" => own == name,
                other => panic!("{name} is a {other}"),
            };
            assert!(is_own, "{own} among the samples of {name}");
            check_labels(labels.strip_suffix('}').expect("the end of the labels"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
        let page = Self { text, samples };
        page.check_histograms();
        page
    }

    /// A series as it is written, labels included; panics if it is not there.
    pub fn get(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("there is no {series}:\n{}", self.text))
    }

    pub fn find(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// All series of a family.
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }

    pub fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let is_own = move |series: &str| series.split('{').next() == Some(name);
        self.samples.iter().filter(move |(series, _)| is_own(series)).map(|(series, value)| (series.as_str(), *value))
    }

    /// The buckets of each rise, and the last one holds all.
    fn check_histograms(&self) {
        for (series, count) in self.samples.iter().filter(|(series, _)| series.contains("_count")) {
            let (name, labels) = series.split_once("_count").unwrap();
            let start = match labels {
                "" => format!("{name}_bucket{{le=\""),
                labels => format!("{name}_bucket{},le=\"", labels.trim_end_matches('}')),
            };
            let bound = |series: &str| {
                let bound = series.strip_prefix(&start)?.strip_suffix("\"}")?;
                Some(if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() })
            };
            let mut buckets: Vec<(f64, f64)> =
                self.samples.iter().filter_map(|(series, value)| Some((bound(series)?, *value))).collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{series}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, *count)), "{series}");
            assert!(self.find(&format!("{name}_sum{labels}")).is_some(), "{series} has no sum");
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.bytes().next().is_some_and(is_letter) && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

/// `name="value"` by commas; the values here need no escapes.
fn check_labels(labels: &str) {
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {label}"));
        let value = value.strip_suffix('"').unwrap_or_else(|| panic!("no value: {label}"));
        assert!(is_name(name) && !value.contains(['"', '\\', '\n']), "{label}");
    }
}
