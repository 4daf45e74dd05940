//! The files of the page, as they are checked in.

/// A file of the page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asset {
    pub(crate) content_type: &'static str,
    pub(crate) content: &'static [u8],
}

/// The file at a path below the token.
pub(crate) fn find(path: &str) -> Option<Asset> {
    let (content_type, content): (_, &'static [u8]) = match path {
        "" | "index.html" => ("text/html; charset=utf-8", include_bytes!("../assets/index.html")),
        "app.js" => ("text/javascript; charset=utf-8", include_bytes!("../assets/app.js")),
        "app.css" => ("text/css; charset=utf-8", include_bytes!("../assets/app.css")),
        _ => return None,
    };
    Some(Asset { content_type, content })
}
