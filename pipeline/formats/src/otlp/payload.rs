//! Profiles as they travel: the bytes of an export request, or tables.
//!
//! Bytes become tables once, when somebody first asks for samples; who only forwards never decodes.
//! Copies share what they hold until one of them changes it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{DecodeError, Summary, decode, edit_resources, encode, summary};
use profpipe_profile::{Profiles, Resource};

/// Profiles as bytes of the wire or as tables.
#[derive(Debug, Clone)]
pub struct Payload {
    form: Form,
    /// The number of samples in bytes, once somebody has asked.
    samples: OnceLock<usize>,
}

#[derive(Debug, Clone)]
enum Form {
    /// An OTLP export request as it was received.
    Wire(Bytes),
    /// Tables, shared until somebody changes them.
    Table(Arc<Profiles>),
}

impl From<Profiles> for Payload {
    fn from(profiles: Profiles) -> Self {
        Self { form: Form::Table(Arc::new(profiles)), samples: OnceLock::new() }
    }
}

impl Payload {
    /// An OTLP export request in protobuf, not decoded yet.
    pub fn from_wire(request: Bytes) -> Self {
        Self { form: Form::Wire(request), samples: OnceLock::new() }
    }

    /// The payload, of which it is known how many samples it has.
    pub fn counted(mut self, samples: u64) -> Self {
        self.samples = usize::try_from(samples).map(OnceLock::from).unwrap_or_default();
        self
    }

    /// About how much memory it takes, in bytes; copies share it.
    pub fn bytes(&self) -> usize {
        match &self.form {
            Form::Wire(request) => request.len(),
            Form::Table(profiles) => profiles.memory(),
        }
    }

    /// The number of samples; 0 for bytes that are not an OTLP request. Bytes are walked only once.
    pub fn samples(&self) -> usize {
        match &self.form {
            Form::Table(profiles) => profiles.sample_count(),
            Form::Wire(request) => {
                *self.samples.get_or_init(|| summary(request).map_or(0, |summary| summary.samples))
            }
        }
    }

    /// The tables, decoded if the payload is still bytes.
    ///
    /// # Errors
    /// If the bytes are not an OTLP request of a dialect that we read.
    pub fn profiles(&mut self) -> Result<&Profiles, DecodeError> {
        Ok(&*self.tables()?)
    }

    /// The tables, for changing them; copied first if a copy of the payload shares them.
    ///
    /// # Errors
    /// As [`Payload::profiles`].
    pub fn profiles_mut(&mut self) -> Result<&mut Profiles, DecodeError> {
        Ok(Arc::make_mut(self.tables()?))
    }

    /// The tables, shared: for who may not change the payload.
    ///
    /// # Errors
    /// As [`Payload::profiles`].
    pub fn shared(&self) -> Result<Arc<Profiles>, DecodeError> {
        match &self.form {
            Form::Table(profiles) => Ok(Arc::clone(profiles)),
            Form::Wire(request) => decode(request).map(Arc::new),
        }
    }

    /// An OTLP export request: the bytes received, if nobody has asked for tables.
    pub fn to_otlp(&self) -> Bytes {
        match &self.form {
            Form::Wire(request) => request.clone(),
            Form::Table(profiles) => encode(profiles).into(),
        }
    }

    /// The OTLP export request as it was received, if nobody has asked for tables.
    pub fn wire(&self) -> Option<&Bytes> {
        match &self.form {
            Form::Wire(request) => Some(request),
            Form::Table(_) => None,
        }
    }

    /// Changes every resource, without decoding what is still bytes. Where nothing changes, it stays
    /// as it is.
    ///
    /// # Errors
    /// If the bytes are not an OTLP request as far as they are looked at.
    pub fn edit_resources(
        &mut self,
        mut edit: impl FnMut(&mut Resource),
    ) -> Result<(), DecodeError> {
        match &mut self.form {
            Form::Wire(request) => {
                if let Some(edited) = edit_resources(request, edit)? {
                    *request = edited.into();
                }
            }
            Form::Table(profiles) => {
                for group in &mut Arc::make_mut(profiles).resources {
                    edit(&mut group.resource);
                }
            }
        }
        Ok(())
    }

    /// How much it holds, without decoding it.
    ///
    /// # Errors
    /// If the bytes are not an OTLP request.
    pub fn summary(&self) -> Result<Summary, DecodeError> {
        match &self.form {
            Form::Table(profiles) => Ok(Summary::of_tables(profiles)),
            Form::Wire(request) => summary(request),
        }
    }

    fn tables(&mut self) -> Result<&mut Arc<Profiles>, DecodeError> {
        if let Form::Wire(request) = &self.form {
            self.form = Form::Table(Arc::new(decode(request)?));
        }
        match &mut self.form {
            Form::Table(profiles) => Ok(profiles),
            Form::Wire(_) => unreachable!("decoded above"),
        }
    }
}
