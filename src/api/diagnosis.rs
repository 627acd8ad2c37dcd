//! What helps to find out what is wrong: settings and log.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::ApiError;

#[async_trait]
pub(crate) trait Diagnosis: Send + Sync {
    /// The parts of the program whose level can be set.
    fn log_parts(&self) -> Vec<&'static str>;
    /// Logs so until the next start; answers what is logged now. `InvalidArgument` if it is no level.
    fn set_log_level(&self, spec: &str) -> Result<String, ApiError>;
    /// The settings, as `leydend`'s flags name them; no password is among them.
    fn settings(&self) -> BTreeMap<String, String>;
    /// The last lines of the log's file. `FailedPrecondition` if the log goes elsewhere.
    async fn log_lines(&self) -> Result<Vec<String>, ApiError>;
}
