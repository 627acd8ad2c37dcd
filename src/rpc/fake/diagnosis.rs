//! A daemon with one setting and one line of log.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Fake;
use crate::api::*;

#[async_trait]
impl Diagnosis for Fake {
    fn log_parts(&self) -> Vec<&'static str> {
        vec!["leyden", "leyden_node"]
    }

    fn set_log_level(&self, spec: &str) -> Result<String, ApiError> {
        self.asked(spec, spec.to_owned())
    }

    fn settings(&self) -> BTreeMap<String, String> {
        [("alias".to_owned(), "alice".to_owned())].into()
    }

    async fn log_lines(&self) -> Result<Vec<String>, ApiError> {
        self.answer(vec!["all is well".to_owned()])
    }
}
