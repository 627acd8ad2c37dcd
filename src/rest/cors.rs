//! Which pages of the web a browser lets call: none, unless the user names some.

use axum::http::{HeaderMap, HeaderValue, header};

pub(super) struct Cors {
    allowed: Vec<String>,
}

impl Cors {
    pub(super) fn new(allowed: Vec<String>) -> Self {
        Self { allowed }
    }

    /// What an answer says to the browser; `None` if nothing is allowed to anybody, or no browser asks for a page.
    pub(super) fn headers(&self, request: &HeaderMap) -> Option<HeaderMap> {
        let mut origins = request.get_all(header::ORIGIN).iter();
        let origin = origins.next().filter(|_| !self.allowed.is_empty())?;
        if origins.next().is_some() {
            return None;
        }
        let mut headers = HeaderMap::new();
        let fields = HeaderValue::from_static("Content-Type, Accept, Grpc-Metadata-Macaroon, Grpc-Metadata-Network");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, fields);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        if self.allowed.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes()) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        }
        Some(headers)
    }
}
