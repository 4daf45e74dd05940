//! The `pyroscope` receiver.
mod convert;
mod labels;
mod multipart;
mod push;
mod query;
mod text;

#[cfg(test)]
mod tests;
