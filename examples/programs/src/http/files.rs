//! From the path of a request to what stands there, and never out of the folder.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::request::{Request, Status};
use super::response::Response;

/// What is encoded in the links of a listing: all but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const NOT_FOUND: Status = "404 Not Found";
const FORBIDDEN: Status = "403 Forbidden";

type Opened = (File, Metadata);

/// The folder that is served.
pub(super) struct Root {
    path: PathBuf,
    #[cfg(target_os = "linux")]
    folder: File,
}

impl Root {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.canonicalize()?;
        path.read_dir()?;
        Ok(Self {
            #[cfg(target_os = "linux")]
            folder: File::open(&path)?,
            path,
        })
    }

    /// Returns the response to a request for what stands at its path.
    pub(super) fn find(&self, request: &Request<'_>) -> Result<Response, Status> {
        let mut place = PathBuf::from(".");
        let mut location = String::from("/");
        for segment in request.path.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
            let name = decode(segment)?;
            let _ = write!(location, "{}/", percent_encode(name.as_encoded_bytes(), ENCODED));
            place.push(name);
        }
        match (self.open(&place).map_err(|error| status(&error))?, request.path.ends_with('/')) {
            (None, false) => {
                // So that the links in the folder lead where they should.
                let fields = format!("Location: {location}\r\n");
                Ok(Response::text("301 Moved Permanently", &fields, String::new()))
            }
            (Some(_), true) => Err(NOT_FOUND),
            (Some(file), false) => Ok(found(request, file, &place)),
            (None, true) => match self.open(&place.join("index.html")) {
                Ok(Some(file)) => Ok(found(request, file, Path::new("index.html"))),
                Err(error) if error.kind() != ErrorKind::NotFound => Err(status(&error)),
                _ => list(&self.path.join(place), &location).map_err(|error| status(&error)),
            },
        }
    }

    /// Opens a file, or nothing for a folder. A symbolic link may lead elsewhere in the root, and
    /// not out of it.
    #[cfg(target_os = "linux")]
    fn open(&self, place: &Path) -> io::Result<Option<Opened>> {
        use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
        use rustix::io::Errno;

        // Where it is a pipe, the open does not wait for the other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat2(&self.folder, place, flags, Mode::empty(), ResolveFlags::BENEATH) {
            // This kernel cannot do it, or a link names its target from the root of all.
            Err(Errno::NOSYS | Errno::XDEV) => self.open_canonical(place),
            opened => {
                let file = File::from(opened?);
                check(file.metadata()?)?.map(|metadata| Ok((file, metadata))).transpose()
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open(&self, place: &Path) -> io::Result<Option<Opened>> {
        self.open_canonical(place)
    }

    fn open_canonical(&self, place: &Path) -> io::Result<Option<Opened>> {
        let path = self.path.join(place).canonicalize()?;
        if !path.starts_with(&self.path) {
            return Err(ErrorKind::PermissionDenied.into());
        }
        check(path.metadata()?)?.map(|metadata| Ok((File::open(path)?, metadata))).transpose()
    }
}

/// Returns `None` for a folder, and an error for what is neither that nor a file.
fn check(metadata: Metadata) -> io::Result<Option<Metadata>> {
    match metadata.is_dir() || metadata.is_file() {
        true => Ok(Some(metadata).filter(Metadata::is_file)),
        false => Err(ErrorKind::PermissionDenied.into()),
    }
}

fn found(request: &Request<'_>, (file, metadata): Opened, path: &Path) -> Response {
    let content_type = mime_guess::from_path(path).first_raw();
    Response::file(request, file, &metadata, content_type.unwrap_or("application/octet-stream"))
}

/// Returns the name of a file: one component of a path, and not a way up.
fn decode(segment: &str) -> Result<OsString, Status> {
    let is_code =
        |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    let bytes: Vec<u8> = percent_decode_str(segment).collect();
    if !segment.split('%').skip(1).all(is_code) || bytes.contains(&0) {
        return Err("400 Bad Request");
    }
    #[cfg(unix)]
    let name: OsString = std::os::unix::ffi::OsStringExt::from_vec(bytes);
    #[cfg(not(unix))]
    let name = OsString::from(String::from_utf8(bytes).map_err(|_| NOT_FOUND)?);
    let mut components = Path::new(&name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(whole)), None) if whole == name => Ok(name),
        (Some(Component::ParentDir), None) => Err(FORBIDDEN),
        _ => Err(NOT_FOUND),
    }
}

fn list(folder: &Path, location: &str) -> io::Result<Response> {
    let mut names = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push((entry.file_name(), slash));
    }
    names.sort();
    let title = escaped(&percent_decode_str(location).decode_utf8_lossy());
    let mut page = format!(
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if location != "/" {
        page.push_str("<li><a href=\"../\">../</a>\n");
    }
    for (name, slash) in names {
        let link = percent_encode(name.as_encoded_bytes(), ENCODED);
        let shown = escaped(&name.to_string_lossy());
        let _ = writeln!(page, "<li><a href=\"{link}{slash}\">{shown}{slash}</a>");
    }
    Ok(Response::text("200 OK", "Content-Type: text/html; charset=utf-8\r\n", page + "</ul>\n"))
}

/// Returns a text that HTML does not take for anything else.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// Returns the status for an error of the file system.
fn status(error: &io::Error) -> Status {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => NOT_FOUND,
        ErrorKind::PermissionDenied => FORBIDDEN,
        // Most likely there are no descriptors left, which passes.
        _ => "503 Service Unavailable",
    }
}
