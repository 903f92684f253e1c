//! One spelling for every path: what routes are matched against is what is forwarded.

/// A path that can be read in one way only, and its query as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalised<'a> {
    pub path: &'a [u8],
    /// Without the `?`; `Some(b"")` when the target ends in `?`.
    pub query: Option<&'a [u8]>,
}

/// Why a path is refused (400), for the error's detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRefusal {
    pub why: &'static str,
}

/// Normalises an origin-form target (`/path?query`). Borrowed from `target` when it is normal already, else built in
/// `scratch` (cleared first).
pub fn normalise<'a>(
    target: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<Normalised<'a>, PathRefusal> {
    let _ = (target, scratch);
    todo!()
}
