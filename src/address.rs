//! Addresses of Unix-domain sockets: a path in the file system, or an abstract name.
//!
//! Creating one never fails, so any string converts into it. What cannot be an address is refused
//! where it is used, with [`io::ErrorKind::InvalidInput`] and a message that names the limit.
//!
//! It deliberately looks at no file: whether a path is free, or something listens there, is for the
//! system to say.

use std::fmt;
use std::io;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The bytes in the system's address for a path with its final zero, or for an abstract name with
/// its leading zero.
const SIZE: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 108 } else { 104 };

/// The longest path in bytes, and the longest abstract name.
const LENGTH_MAX: usize = SIZE - 1;

/// Where a Unix-domain socket listens: a path, or on Linux and Android an abstract name.
///
/// Strings and paths convert into it. Using an address that is empty, contains a zero byte or is
/// longer than the system allows (107 bytes on Linux, 103 elsewhere) is an error.
///
/// ```
/// use readiness::{EventLoop, UnixAddress};
///
/// # fn main() -> std::io::Result<()> {
/// let mut server: EventLoop = EventLoop::new()?;
/// let path = format!("/tmp/readiness-{}.socket", std::process::id());
/// server.listen_unix(path.as_str())?;
/// // One that listens is a file, and is in the way of the next.
/// let error = server.listen_unix(path.as_str()).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
/// server.listen_unix(UnixAddress::from(path).replacing())?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixAddress {
    name: Name,
    replaces: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Name {
    Path(PathBuf),
    #[cfg_attr(
        not(any(target_os = "linux", target_os = "android")),
        expect(dead_code, reason = "only Linux has abstract names")
    )]
    Abstract(Vec<u8>),
}

impl UnixAddress {
    /// Creates an abstract name, which is not a file. It disappears with its socket, and every
    /// process on the host may connect to it, because no file permissions protect it.
    ///
    /// ```
    /// use readiness::{EventLoop, UnixAddress};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server: EventLoop = EventLoop::new()?;
    /// let name = format!("readiness example {}", std::process::id());
    /// server.listen_unix(UnixAddress::abstract_name(name))?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[must_use]
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Self {
        Self { name: Name::Abstract(name.as_ref().to_vec()), replaces: false }
    }

    /// Allows `listen_unix` to replace an existing socket file: a stale one, or one on which
    /// another process still listens (which then can no longer be reached by that path). Anything
    /// that is not a socket file is left alone and is an error. Has no effect on connecting or on
    /// an abstract name.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        self.replaces = true;
        self
    }

    /// Returns the path, unless it is an abstract name.
    #[must_use]
    pub fn as_path(&self) -> Option<&Path> {
        match &self.name {
            Name::Path(path) => Some(path),
            Name::Abstract(_) => None,
        }
    }

    pub(crate) fn replaces(&self) -> bool {
        self.replaces
    }

    /// Returns the address with an absolute path, which stays valid when the program changes its
    /// working directory. A path that would become too long for the system stays as it is.
    pub(crate) fn absolute(self) -> Self {
        let absolute = self.as_path().and_then(|path| std::path::absolute(path).ok());
        let absolute = absolute.map(|path| Self { name: Name::Path(path), ..self.clone() });
        absolute.filter(|address| address.check().is_ok()).unwrap_or(self)
    }

    /// Refuses what no system accepts as an address, and says why.
    pub(crate) fn check(&self) -> io::Result<()> {
        let (what, bytes) = match &self.name {
            Name::Path(path) => ("path", path.as_os_str().as_bytes()),
            Name::Abstract(name) => ("abstract name", name.as_slice()),
        };
        let fault = match bytes.len() {
            0 => "it is empty".to_owned(),
            length if length > LENGTH_MAX => {
                format!("it has {length} bytes, and at most {LENGTH_MAX} are possible")
            }
            _ if what == "path" && bytes.contains(&0) => "it has a zero byte in it".to_owned(),
            _ => return Ok(()),
        };
        let message = format!("{self} is not possible as the {what} of a socket: {fault}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    }

    /// Converts an address that the system has reported.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn of_system(&self) -> io::Result<SocketAddr> {
        match &self.name {
            Name::Path(path) => SocketAddr::from_pathname(path),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Name::Abstract(name) => SocketAddr::from_abstract_name(name),
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            Name::Abstract(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Returns the bytes as the system has them: an abstract name has a leading zero.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match &self.name {
            Name::Path(path) => path.as_os_str().as_bytes().to_vec(),
            Name::Abstract(name) => [&[0], name.as_slice()].concat(),
        }
    }
}

impl fmt::Display for UnixAddress {
    /// Shows a path as it is, and an abstract name after an `@`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Path(path) => write!(f, "{}", path.display()),
            Name::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}

macro_rules! from_path {
    ($($path:ty),*) => {$(
        impl From<$path> for UnixAddress {
            fn from(path: $path) -> Self {
                Self { name: Name::Path(path.into()), replaces: false }
            }
        }
    )*};
}

from_path!(PathBuf, &Path, &PathBuf, &str, String);

/// What the system tells of a socket is an address again. One of a socket that has none is the
/// empty path, to which no connect succeeds.
impl From<SocketAddr> for UnixAddress {
    fn from(address: SocketAddr) -> Self {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = address.as_abstract_name() {
            return Self::abstract_name(name);
        }
        address.as_pathname().unwrap_or(Path::new("")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_path_is_refused_by_the_bound_that_it_breaks() {
        let longest = "p".repeat(LENGTH_MAX);
        UnixAddress::from(longest.as_str()).check().unwrap();
        let message = |address: UnixAddress| {
            let error = address.check().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            error.to_string()
        };
        assert!(message("".into()).ends_with("it is empty"));
        assert!(message("a\0b".into()).ends_with("it has a zero byte in it"));
        let too_long = message((longest + "p").into());
        let bound = format!("it has {} bytes, and at most {LENGTH_MAX} are possible", SIZE);
        assert!(too_long.ends_with(&bound), "{too_long}");
    }

    #[test]
    fn absolute_path_is_the_same_place_and_one_that_is_too_long_stays_as_it_was() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(UnixAddress::from("a").absolute(), here.join("a").into());
        assert_eq!(UnixAddress::from("/a/b").absolute(), "/a/b".into());
        let replacing = UnixAddress::from("a").replacing().absolute();
        assert!(replacing.replaces());
        let long = "p".repeat(LENGTH_MAX);
        assert_eq!(UnixAddress::from(long.as_str()).absolute(), long.into());
        assert_eq!(UnixAddress::from("").absolute(), "".into());
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn abstract_names_may_have_any_bytes_up_to_the_bound() {
        UnixAddress::abstract_name([0; LENGTH_MAX]).check().unwrap();
        for name in [&[][..], &[1; SIZE]] {
            let error = UnixAddress::abstract_name(name).check().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let address = UnixAddress::abstract_name(b"a\0\xff");
        assert_eq!(address.to_string(), "@a\\x00\\xff");
        let of_system = SocketAddr::from_abstract_name(b"a\0\xff").unwrap();
        assert_eq!(UnixAddress::from(of_system), address);
    }

    #[test]
    fn a_path_comes_back_from_the_system_as_it_was() {
        let address = UnixAddress::from("a/b");
        assert_eq!(address.to_string(), "a/b");
        assert_eq!(UnixAddress::from(SocketAddr::from_pathname("a/b").unwrap()), address);
        assert_eq!(address.as_path(), Some(Path::new("a/b")));
        assert_ne!(address.clone().replacing(), address);
    }
}
