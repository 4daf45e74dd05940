//! The messages of `debuginfo.v1alpha1.DebuginfoService`, Pyroscope's protocol for uploads of binaries and
//! debug files, as far as they are of use here; written after its definition.
//!
//! ```text
//! ShouldInitiateUpload(file)       do you have it? Whoever hears `true` sends it, others do not
//! POST …/Upload/GNU_BUILD_ID       the bytes of the file, by plain HTTP
//! UploadFinished(gnu_build_id)     it is all there
//! ```

use prost::Message;

/// The paths of its methods.
pub const SHOULD_INITIATE: &str = "/debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload";
/// See [`SHOULD_INITIATE`].
pub const FINISHED: &str = "/debuginfo.v1alpha1.DebuginfoService/UploadFinished";
/// Where a file goes; the build id follows.
pub const UPLOAD: &str = "/debuginfo.v1alpha1.DebuginfoService/Upload/";
/// The `kind` of a file that runs.
pub const TYPE_EXECUTABLE_FULL: i32 = 1;
/// The `kind` of a file that has what is known about one that runs.
pub const TYPE_EXECUTABLE_NO_TEXT: i32 = 2;

/// What a file is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FileMetadata {
    /// Its GNU build id, in hex.
    #[prost(string, tag = "1")]
    pub gnu_build_id: String,
    /// Its name without a directory, for people.
    #[prost(string, tag = "4")]
    pub name: String,
    /// [`TYPE_EXECUTABLE_FULL`] or [`TYPE_EXECUTABLE_NO_TEXT`].
    #[prost(int32, tag = "5")]
    pub kind: i32,
}

/// Asks whether a file is wanted.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShouldInitiateUploadRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub file: Option<FileMetadata>,
}

/// Says whether it is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShouldInitiateUploadResponse {
    /// It is, from this sender.
    #[prost(bool, tag = "1")]
    pub should_initiate_upload: bool,
    /// Why or why not, for people.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// Of ours alone: another sender was told to send it, and this one may offer it again then.
    #[prost(uint64, tag = "1000")]
    pub offer_again_after_seconds: u64,
}

/// Says that a file was sent.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UploadFinishedRequest {
    /// Its GNU build id, in hex.
    #[prost(string, tag = "1")]
    pub gnu_build_id: String,
}
