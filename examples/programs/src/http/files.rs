//! From the path of a request to what stands there, and never out of the folder.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bstr::ByteVec;
use cap_fs_ext::{OpenOptionsMaybeDirExt, OpenOptionsSyncExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use html_escape::encode_quoted_attribute as escaped;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::response::Response;
use crate::request::{BAD_REQUEST, Request};

/// What is encoded in the links of a list: all but what RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stands at a path, opened.
pub(super) type Found = (Metadata, File);

/// The folder that is served.
pub(super) struct Root {
    path: PathBuf,
    /// Opens nothing outside of itself, also while somebody changes what is in it.
    folder: Dir,
}

impl Root {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.canonicalize()?;
        Ok(Self { folder: Dir::open_ambient_dir(&path, ambient_authority())?, path })
    }

    /// Returns what stands at the path of a request: a folder if it ends in a slash, and else a
    /// file. Pages that are no files have their place here.
    pub(super) fn find(&self, request: &Request<'_>) -> io::Result<Response> {
        let (mut place, mut location) = (PathBuf::from("."), String::from("/"));
        for segment in request.path.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
            place.push(decode(segment)?);
            location += &format!("{segment}/");
        }
        let is_folder = request.path.ends_with('/');
        let path = if is_folder { place.join("index.html") } else { place.clone() };
        match self.open(&path) {
            Ok(found) if found.0.is_file() => Response::file(request, &path, found),
            Ok(found) if !found.0.is_dir() => Err(ErrorKind::PermissionDenied.into()),
            Err(error) if !is_folder || error.kind() != ErrorKind::NotFound => Err(error),
            _ if is_folder => self.list(&place, &location),
            // So that the links in the folder lead where they should.
            _ => Ok(Response::plain("301 Moved Permanently", &format!("Location: {location}\r\n"))),
        }
    }

    /// Opens what stands there, with what it is. A symbolic link may lead elsewhere in the root,
    /// and not out of it.
    fn open(&self, place: &Path) -> io::Result<Found> {
        let mut options = OpenOptions::new();
        // Where it is a pipe, the open does not wait for the other end.
        options.read(true).maybe_dir(true).nonblock(true);
        let opened = self.folder.open_with(place, &options).or_else(|error| {
            // A link that names its target from the root of all may lead here all the same.
            let path = self.path.join(place).canonicalize()?;
            let place = path.strip_prefix(&self.path).map_err(|_| error)?;
            self.folder.open_with(Path::new(".").join(place), &options)
        });
        let file = opened?.into_std();
        Ok((file.metadata()?, file))
    }

    fn list(&self, place: &Path, location: &str) -> io::Result<Response> {
        let folder = Dir::from_std_file(self.open(place)?.1);
        let names = folder.entries()?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        let up = if location == "/" { "" } else { "<li><a href=\"../\">../</a>\n" };
        let mut entries = String::from(up);
        for name in names {
            let slash = if self.folder.is_dir(place.join(&name)) { "/" } else { "" };
            let link = percent_encode(name.as_encoded_bytes(), ENCODED);
            let shown = name.to_string_lossy();
            entries += &format!("<li><a href=\"{link}{slash}\">{}{slash}</a>\n", escaped(&shown));
        }
        let title = percent_decode_str(location).decode_utf8_lossy();
        let page = format!(include_str!("list.html"), title = escaped(&title), entries = entries);
        Ok(Response::text("200 OK", "Content-Type: text/html; charset=utf-8\r\n", page))
    }
}

/// Returns the name of a file: one component of a path, and not a way up.
fn decode(segment: &str) -> io::Result<OsString> {
    let bytes: Vec<u8> = percent_decode_str(segment).collect();
    // Each `%` begins a code of three characters.
    if bytes.len() + 2 * segment.matches('%').count() != segment.len() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let name = bytes.into_os_string().map_err(|_| ErrorKind::NotFound)?;
    match Path::new(&name).file_name() {
        Some(whole) if whole == name => Ok(name),
        None if name == ".." => Err(ErrorKind::PermissionDenied.into()),
        _ => Err(ErrorKind::NotFound.into()),
    }
}

/// Returns the response to an error of the file system.
pub(super) fn failure(error: io::Error) -> Response {
    use ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    let status = match error.kind() {
        NotFound | NotADirectory | InvalidFilename => "404 Not Found",
        PermissionDenied => "403 Forbidden",
        InvalidInput => BAD_REQUEST,
        // Most likely there are no descriptors left, which passes.
        _ => "503 Service Unavailable",
    };
    Response::plain(status, "")
}
