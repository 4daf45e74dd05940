//! pprof: the format of google/pprof, to and from [`crate::profile`].
