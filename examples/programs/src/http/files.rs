//! From the path of a request to what stands there, and never out of the folder.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::request::Status;

/// What is encoded in the links of a listing: all but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stands at a path.
#[derive(Debug)]
pub(super) enum Found {
    File(File, Metadata, &'static str),
    /// A page of what is in a folder.
    Listing(String),
    /// A folder whose path has to end in a slash, so that links in it lead where they should.
    Elsewhere(String),
}

/// Finds what stands at a percent-encoded path below `root`, which is canonical.
pub(super) fn find(root: &Path, path: &str) -> Result<Found, Status> {
    let mut place = root.to_owned();
    let mut location = String::from("/");
    let mut is_folder = true;
    for segment in path.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        let name = decode(segment)?;
        let _ = write!(location, "{}/", percent_encode(name.as_encoded_bytes(), ENCODED));
        is_folder = step(root, &mut place, &name)?.is_dir();
    }
    match (is_folder, path.ends_with('/')) {
        (true, true) => folder(root, place, &location),
        (true, false) => Ok(Found::Elsewhere(location)),
        (false, true) => Err(404),
        (false, false) => open(&place),
    }
}

/// The name of a file: one component of a path, and not a way up.
fn decode(segment: &str) -> Result<OsString, Status> {
    let has_code = |rest: &str| {
        rest.get(..2).is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let bytes: Vec<u8> = percent_decode_str(segment).collect();
    if !segment.split('%').skip(1).all(has_code) || bytes.contains(&0) {
        return Err(400);
    }
    let name = from_bytes(bytes).ok_or(404u16)?;
    let mut components = Path::new(&name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(whole)), None) if whole == name => Ok(name),
        (Some(Component::ParentDir), None) => Err(403),
        _ => Err(404),
    }
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

/// Goes down to a name. A symbolic link may lead elsewhere in the folder, and not out of it.
fn step(root: &Path, place: &mut PathBuf, name: impl AsRef<Path>) -> Result<Metadata, Status> {
    place.push(name);
    let metadata = fs::symlink_metadata(&place).map_err(status)?;
    if !metadata.is_symlink() {
        return Ok(metadata);
    }
    *place = place.canonicalize().map_err(status)?;
    if !place.starts_with(root) {
        return Err(403);
    }
    fs::symlink_metadata(place).map_err(status)
}

/// The page of a folder: its `index.html`, or a listing.
fn folder(root: &Path, mut place: PathBuf, location: &str) -> Result<Found, Status> {
    let folder = place.clone();
    match step(root, &mut place, "index.html") {
        Ok(metadata) if metadata.is_file() => open(&place),
        Ok(_) | Err(404) => list(&folder, location).map(Found::Listing).map_err(status),
        Err(status) => Err(status),
    }
}

fn open(path: &Path) -> Result<Found, Status> {
    // A pipe would be waited for, a device could do anything.
    if !fs::metadata(path).map_err(status)?.is_file() {
        return Err(403);
    }
    let file = File::open(path).map_err(status)?;
    let metadata = file.metadata().map_err(status)?;
    let content_type = mime_guess::from_path(path).first_raw();
    Ok(Found::File(file, metadata, content_type.unwrap_or("application/octet-stream")))
}

fn list(folder: &Path, location: &str) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push((entry.file_name(), slash));
    }
    names.sort();
    let title = escaped(&percent_decode_str(location).decode_utf8_lossy());
    let mut page = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1><ul>\n"
    );
    if location != "/" {
        page.push_str("<li><a href=\"../\">../</a></li>\n");
    }
    for (name, slash) in names {
        let link = percent_encode(name.as_encoded_bytes(), ENCODED);
        let shown = escaped(&name.to_string_lossy());
        let _ = writeln!(page, "<li><a href=\"{link}{slash}\">{shown}{slash}</a></li>");
    }
    page.push_str("</ul></body></html>\n");
    Ok(page)
}

/// A text that HTML does not take for anything else.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// The status for an error of the file system.
fn status(error: io::Error) -> Status {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => 404,
        ErrorKind::PermissionDenied => 403,
        // Most likely there are no descriptors left, which passes.
        _ => 503,
    }
}
