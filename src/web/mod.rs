//! The page for people: files in the program, served at the root of the REST port.
//!
//! Promises: everything that the page shows and does goes over the public API, with the macaroon of whoever has logged in; it
//! asks no other host, and runs no script but its own; no file of the disk is served.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, header},
};

/// Only what is ours is loaded and run, nothing inline, and nobody puts the page into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page: its path, its type, what is in it.
type File = (&'static str, &'static str, &'static [u8]);

const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: &[File] = &[
    ("/", "text/html; charset=utf-8", include_bytes!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_bytes!("page/style.css")),
    ("/icon.svg", "image/svg+xml", include_bytes!("page/icon.svg")),
    ("/app.js", SCRIPT, include_bytes!("page/app.js")),
    ("/api.js", SCRIPT, include_bytes!("page/api.js")),
    ("/camera.js", SCRIPT, include_bytes!("page/camera.js")),
    ("/clock.js", SCRIPT, include_bytes!("page/clock.js")),
    ("/dom.js", SCRIPT, include_bytes!("page/dom.js")),
    ("/format.js", SCRIPT, include_bytes!("page/format.js")),
    ("/qr.js", SCRIPT, include_bytes!("page/qr.js")),
    ("/qr-find.js", SCRIPT, include_bytes!("page/qr-find.js")),
    ("/qr-read.js", SCRIPT, include_bytes!("page/qr-read.js")),
    ("/qr-worker.js", SCRIPT, include_bytes!("page/qr-worker.js")),
    ("/views/enter.js", SCRIPT, include_bytes!("page/views/enter.js")),
    ("/views/overview.js", SCRIPT, include_bytes!("page/views/overview.js")),
    ("/views/pay.js", SCRIPT, include_bytes!("page/views/pay.js")),
    ("/views/receive.js", SCRIPT, include_bytes!("page/views/receive.js")),
    ("/views/channels.js", SCRIPT, include_bytes!("page/views/channels.js")),
    ("/views/history.js", SCRIPT, include_bytes!("page/views/history.js")),
    ("/views/wallet.js", SCRIPT, include_bytes!("page/views/wallet.js")),
    ("/views/chain.js", SCRIPT, include_bytes!("page/views/chain.js")),
    ("/views/network.js", SCRIPT, include_bytes!("page/views/network.js")),
    ("/views/towers.js", SCRIPT, include_bytes!("page/views/towers.js")),
];

/// The file at a path, if it is one of the page's.
pub(crate) fn file(path: &str) -> Option<Response<Body>> {
    let (_, kind, bytes) = FILES.iter().find(|(one, ..)| *one == path)?;
    let mut response = Response::new(Body::from(*bytes));
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A new version of the daemon brings a new page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    response
        .headers_mut()
        .extend(HeaderMap::from_iter(headers.map(|(name, value)| (name, HeaderValue::from_static(value)))));
    Some(response)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    fn on_disk(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                on_disk(&path, root, found);
            } else {
                found.insert(format!("/{}", path.strip_prefix(root).unwrap().display()));
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served_and_nothing_else() {
        let root = Path::new("src/web/page");
        let mut found = BTreeSet::new();
        on_disk(root, root, &mut found);
        let served =
            FILES.iter().map(|(path, ..)| if *path == "/" { "/index.html" } else { path }.to_owned()).collect();
        assert_eq!(found, served);
        assert!(file("/index.htm").is_none() && file("/../Cargo.toml").is_none() && file("").is_none());
    }

    #[test]
    fn what_a_script_imports_is_served() {
        let mut imports = 0;
        for (path, kind, bytes) in FILES {
            if *kind != SCRIPT {
                continue;
            }
            let folder = path.rsplit_once('/').unwrap().0;
            let text = std::str::from_utf8(bytes).unwrap();
            for name in text.lines().filter_map(|line| line.strip_prefix("import ")?.split('"').nth(1)) {
                let target = match (name.strip_prefix("./"), name.strip_prefix("../")) {
                    (Some(name), _) => format!("{folder}/{name}"),
                    (None, Some(name)) => format!("/{name}"),
                    (None, None) => panic!("{path} imports {name}"),
                };
                assert!(file(&target).is_some(), "{path} imports {name}");
                imports += 1;
            }
        }
        assert!(imports > 20, "only {imports} imports were found");
    }

    #[test]
    fn the_page_asks_for_nothing_elsewhere_and_makes_no_markup_of_words() {
        for (path, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{path}");
            for danger in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "style=\""]
            {
                assert!(!text.contains(danger), "{path} has {danger}");
            }
        }
        let all: usize = FILES.iter().map(|(.., bytes)| bytes.len()).sum();
        assert!(all < 300_000, "{all} bytes");
    }
}
