//! Pyroscope's query API, so that what asks Pyroscope can ask us.

use profpipe_network::server::{Rejection, Reply, Request};
use profpipe_store::{QueryError, Selection};

use crate::handler::Options;
use crate::parameters::Parameters;

/// The methods that are answered by gRPC, too.
pub(crate) const GRPC_METHODS: [&str; 0] = [];

/// Answers a request; nothing if it is not for this API.
pub(crate) fn answer(
    _options: &Options,
    _path: &str,
    _request: &Request,
) -> Option<Result<Reply, Rejection>> {
    None
}

pub(crate) fn render_query(
    parameters: &Parameters,
    _query: &str,
    _from: &str,
    _until: &str,
) -> Result<Selection, QueryError> {
    parameters.selection()
}
