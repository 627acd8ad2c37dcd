//! From the services' answers to JSON.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, StatusCode, header},
};
use leyden_common::names::ADVICE;
use leyden_proto::json::{BytesAs, Json};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status, Streaming};

use crate::callers::Busy;

/// An answer above this is put together on a thread that may take its time: no other call waits behind it.
const SMALL: usize = 64 << 10;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such path.
    Path,
    /// Not with this verb.
    Verb,
    /// Not for the page of another site.
    Origin,
    /// Not by this name.
    Host,
    /// Of a call that answers with a stream: as that would say it.
    Stream(Box<Refusal>),
    /// HTTP has a number of its own for it.
    Http(StatusCode, Status),
    Call(Status),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Call(status)
    }
}

impl Refusal {
    fn parts(self) -> (StatusCode, Status) {
        match self {
            Self::Path => (StatusCode::NOT_FOUND, Status::not_found("Not Found")),
            Self::Verb => (StatusCode::NOT_IMPLEMENTED, Status::unimplemented("Method Not Allowed")),
            Self::Origin => {
                let text = "the page of another site asks this: if it may, name its origin with --rest-cors";
                (StatusCode::FORBIDDEN, Status::permission_denied(text))
            }
            Self::Host => (StatusCode::MISDIRECTED_REQUEST, Status::permission_denied(crate::host::REFUSAL)),
            Self::Stream(refusal) => refusal.parts(),
            Self::Http(http, status) => (http, status),
            Self::Call(status) => (http_status(status.code()), status),
        }
    }

    /// The same, of a call that answers with a stream.
    pub(super) fn in_stream(self) -> Self {
        Self::Stream(Box::new(self))
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let (http, text) = self.into_parts();
        let mut response = respond(http, text.to_string().into());
        if http == StatusCode::REQUEST_TIMEOUT || http == StatusCode::PAYLOAD_TOO_LARGE {
            // What is left of the body is not read.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The number of HTTP, and what to say.
    fn into_parts(self) -> (StatusCode, Value) {
        let is_in_stream = matches!(self, Self::Stream(_));
        let (http, status) = self.parts();
        (http, if is_in_stream { json!({ "error": error(&status) }) } else { error(&status) })
    }

    /// As a message of a WebSocket.
    pub(super) fn into_text(self) -> String {
        self.into_parts().1.to_string()
    }
}

/// As grpc-gateway says an error, and the advice that stands beside LND's words.
fn error(status: &Status) -> Value {
    let mut error = json!({ "code": i32::from(status.code()), "message": status.message(), "details": [] });
    let advice = status.metadata().get_bin(ADVICE).and_then(|advice| advice.to_bytes().ok());
    if let Some(advice) = advice.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()) {
        error["advice"] = advice.into();
    }
    error
}

/// Its number of HTTP, by grpc-gateway's table.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // The client has gone; the number is a habit that no standard has.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("grpc-metadata-content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// The answer of a call that has one.
pub(super) async fn one(message: Bytes, descriptor: MessageDescriptor) -> Result<Response<Body>, super::Refusal> {
    let text = text(message, descriptor, "", "").await?;
    Ok(respond(StatusCode::OK, text.into()))
}

/// The message as JSON, between two texts.
pub(super) async fn text(
    message: Bytes,
    descriptor: MessageDescriptor,
    before: &'static str,
    after: &'static str,
) -> Result<String, Status> {
    let long = message.len() > SMALL;
    let make = move || {
        let message = DynamicMessage::decode(descriptor, message).map_err(|error| error.to_string())?;
        let mut text = Vec::from(before);
        serde_json::to_writer(&mut text, &Json { message: &message, bytes: BytesAs::Base64 })
            .map_err(|error| error.to_string())?;
        text.extend_from_slice(after.as_bytes());
        String::from_utf8(text).map_err(|error| error.to_string())
    };
    let made = if long {
        tokio::task::spawn_blocking(make).await.map_err(|error| error.to_string()).and_then(|made| made)
    } else {
        make()
    };
    made.map_err(Status::internal)
}

/// The messages of a stream, each as `{"result": …}`; what ends it, if that is an error, as `{"error": …}`.
pub(super) fn lines(messages: Streaming<Bytes>, descriptor: MessageDescriptor) -> impl Stream<Item = String> + Send {
    messages.then(move |message| {
        let descriptor = descriptor.clone();
        async move {
            let line = match message {
                Ok(message) => text(message, descriptor, "{\"result\":", "}").await,
                Err(status) => Err(status),
            };
            line.unwrap_or_else(|status| json!({ "error": error(&status) }).to_string())
        }
    })
}

/// The answer of a call that has many: a line for each. `busy` until the last one is gone.
pub(super) fn stream(messages: Streaming<Bytes>, descriptor: MessageDescriptor, busy: Busy) -> Response<Body> {
    let lines = lines(messages, descriptor).map(move |line| {
        let _busy = &busy;
        Ok::<_, Status>(Bytes::from(line + "\n"))
    });
    respond(StatusCode::OK, Body::from_stream(lines))
}
