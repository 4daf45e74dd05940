//! Any bytes as a request from a stranger: no panic, what is let in is usable and read by a strict
//! reader, and a request that a strict reader takes is taken as it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use profpipe_formats::otlp::{self, Rejected};

fuzz_target!(|bytes: &[u8]| {
    let strict = otlp::decode(bytes);
    let Ok((batch, rejected)) = otlp::admit(bytes.to_vec().into()) else {
        assert!(strict.is_err());
        return;
    };
    let (lenient, again) = otlp::decode_lenient(bytes).unwrap();
    assert_eq!(lenient.dictionary.check(), Ok(()));
    assert_eq!((batch.samples(), &again), (lenient.sample_count(), &rejected));
    if let Ok(strict) = strict {
        assert_eq!(rejected, Rejected::default());
        assert_eq!(otlp::encode(&strict), otlp::encode(&lenient));
    }
    let passed_on = otlp::decode(&batch.to_otlp()).unwrap();
    assert_eq!(passed_on.sample_count(), batch.samples());
});
