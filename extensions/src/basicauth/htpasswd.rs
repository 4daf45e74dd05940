//! Users and their passwords, as `htpasswd` writes them.
//!
//! A line is `user:hash`. The hash is bcrypt (`$2y$…`, what `htpasswd -B` makes) or the password
//! itself. The other kinds that `htpasswd` knows are fast to guess, and a file with one of them is
//! refused with the words for how to change that.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use profpipe_engine::component::Error;
use profpipe_engine::settings::Secret;

use crate::credentials::Fingerprint;

/// Kinds of hashes that are not checked here, by how they begin.
const REFUSED: [&str; 7] = ["{SHA}", "{SSHA}", "$apr1$", "$1$", "$5$", "$6$", "$y$"];

/// Users by their name.
#[derive(Default)]
pub(super) struct Users {
    by_name: HashMap<String, Kept>,
    /// A hash that is checked where there is no such user, so that this takes as long.
    of_nobody: Option<Secret>,
    /// What was right before, so that it need not be checked again.
    right: Mutex<HashMap<String, Fingerprint>>,
    /// Makes what is remembered useless elsewhere.
    salt: RandomState,
}

enum Kept {
    Bcrypt(Secret),
    Plain(Fingerprint),
}

impl Users {
    /// Adds the users of some lines; a user that is there already is replaced.
    ///
    /// # Errors
    /// If a line is no user, or has a hash of another kind; names the line, never what is in it.
    pub(super) fn add(&mut self, place: &str, lines: &Secret) -> Result<(), Error> {
        for (at, line) in lines.expose().lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| Error::new(format!("{place}: line {}: {what}", at + 1));
            let (user, hash) =
                line.split_once(':').ok_or_else(|| wrong("it is not written `user:hash`"))?;
            if user.is_empty() || hash.is_empty() {
                return Err(wrong("the user or the hash is empty"));
            }
            if REFUSED.iter().any(|prefix| hash.starts_with(prefix)) {
                return Err(wrong("this kind of hash is not supported; use `htpasswd -B`"));
            }
            let kept = match is_bcrypt(hash) {
                true if hash.parse::<bcrypt::HashParts>().is_err() => {
                    return Err(wrong("the bcrypt hash is damaged"));
                }
                true => {
                    self.of_nobody.get_or_insert(Secret::new(hash));
                    Kept::Bcrypt(Secret::new(hash))
                }
                false => Kept::Plain(Fingerprint::of(hash.as_bytes())),
            };
            self.by_name.insert(user.to_owned(), kept);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether it is the user's password.
    pub(super) fn check(&self, user: &str, password: &[u8]) -> bool {
        match (self.by_name.get(user), &self.of_nobody) {
            (Some(Kept::Plain(known)), _) => bool::from(known.same(&Fingerprint::of(password))),
            (Some(Kept::Bcrypt(hash)), _) => self.check_slowly(user, password, hash.expose()),
            (None, Some(hash)) => {
                // Whatever comes out: there is no such user.
                slow(password, hash.expose());
                false
            }
            (None, None) => false,
        }
    }

    fn check_slowly(&self, user: &str, password: &[u8], hash: &str) -> bool {
        let salt = self.salt.hash_one(user).to_le_bytes();
        let fingerprint = Fingerprint::of(&[&salt, password].concat());
        let right = || self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |known: &Fingerprint| bool::from(known.same(&fingerprint));
        if right().get(user).is_some_and(known) {
            return true;
        }
        let is_right = slow(password, hash);
        if is_right {
            right().insert(user.to_owned(), fingerprint);
        }
        is_right
    }
}

/// Checks a hash, one at a time in the whole program, without holding up other tasks.
fn slow(password: &[u8], hash: &str) -> bool {
    static TURN: Mutex<()> = Mutex::new(());
    without_blocking(|| {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        bcrypt::verify(password, hash).unwrap_or(false)
    })
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix))
}

/// Does what takes long without holding up other tasks of the runtime.
fn without_blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
