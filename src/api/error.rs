//! Why a call cannot be answered.

/// The kind decides the gRPC status; the text is for the person who reads it and says what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request is wrong whatever the node's state is.
    #[error("{0}")]
    InvalidArgument(String),
    /// The request is right, but not in the present state: locked, not connected, too little money.
    #[error("{0}")]
    FailedPrecondition(String),
    /// What the request names is not known.
    #[error("{0}")]
    NotFound(String),
    /// What the request would make exists.
    #[error("{0}")]
    AlreadyExists(String),
    /// It may work later: starting, stopping, nobody answers at the other end.
    #[error("{0}")]
    Unavailable(String),
    /// No way through the network, now.
    #[error("{0}")]
    NoRoute(String),
    /// Not the caller's fault.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::InvalidArgument(text.into())
    }

    pub fn precondition(text: impl Into<String>) -> Self {
        Self::FailedPrecondition(text.into())
    }

    pub fn not_found(text: impl Into<String>) -> Self {
        Self::NotFound(text.into())
    }

    pub fn exists(text: impl Into<String>) -> Self {
        Self::AlreadyExists(text.into())
    }

    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::Unavailable(text.into())
    }

    pub fn internal(text: impl Into<String>) -> Self {
        Self::Internal(text.into())
    }
}
