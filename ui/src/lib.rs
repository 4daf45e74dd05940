//! The page that shows profiles, the server behind it, and the query API.
//!
//! [`Page`] is the whole: it answers requests from a [`Source`](profpipe_store::Source) of tables. It is a
//! handler of the project's server ([`Page::router`]), which brings limits, TLS and authentication.
//!
//! # Below one address
//! Everything is below a token that cannot be guessed, `http://127.0.0.1:PORT/TOKEN`: the page, what it asks
//! for (`api/…`, see `ui/README.md`), and Pyroscope's query API (`querier.v1.QuerierService/…`).
//!
//! # What keeps others out
//! A page of another site can make a browser send requests to this host: the `Host` must be one of this
//! server's ([`Hosts`]), the token is in the path, nothing changes anything, and no answer can be read
//! across origins. Names of functions come from files of strangers: they are only ever data in JSON, and
//! the policy of the page allows no code but its own.

mod answer;
mod api;
mod assets;
mod export;
mod handler;
mod hosts;
mod options;
mod parameters;
mod pyroscope;

pub use export::{Exports, Format};
pub use handler::Page;
pub use hosts::{Hosts, token};
pub use options::Options;
