//! x
mod convert;
mod labels;
mod multipart;
mod push;
mod query;
mod text;
