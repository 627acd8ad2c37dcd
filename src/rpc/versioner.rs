//! `verrpc.Versioner`: which LND's interface is served.

use leyden_proto::verrpc::{Version, VersionRequest, versioner_server::Versioner};
use tonic::{Request, Response, Status};

use super::convert::lifecycle::{COMPATIBLE, build_commit};

pub(super) struct VersionerService;

#[tonic::async_trait]
impl Versioner for VersionerService {
    async fn get_version(&self, _request: Request<VersionRequest>) -> Result<Response<Version>, Status> {
        let (app_major, app_minor, app_patch) = COMPATIBLE;
        Ok(Response::new(Version {
            commit: build_commit(),
            commit_hash: String::new(),
            version: format!("{app_major}.{app_minor}.{app_patch}-beta"),
            app_major,
            app_minor,
            app_patch,
            app_pre_release: "beta".to_owned(),
            // Clients ask for these before they call the services of the same names.
            build_tags: ["signrpc", "walletrpc", "chainrpc", "invoicesrpc", "peersrpc", "watchtowerrpc"]
                .map(str::to_owned)
                .to_vec(),
            go_version: String::new(),
        }))
    }
}
