//! Packs the built web page (`ui/dist`) into the program: one table of path, type, ETag and gzipped bytes.
//!
//! The page is committed as built, so whoever builds the program needs no Node. Without it a small page says what to do.

use flate2::{Compression, write::GzEncoder};
use std::error::Error;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Archipel</title>\
<h1>The web page was not built</h1><p>This archipeld was compiled without it. Run <code>npm ci</code> and <code>npm run build</code> in \
<code>ui/</code>, then compile again. The command line and every XMPP client work without it.</p></html>\n";

fn main() -> Result<(), Box<dyn Error>> {
    let dist = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("dist");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=dist");
    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        walk(&dist, &mut files)?;
        files.sort();
    }
    let mut table = String::from("pub(crate) static ASSETS: &[Asset] = &[\n");
    if files.is_empty() {
        row(&mut table, &out, 0, "/index.html", NOT_BUILT.as_bytes())?;
    }
    for (number, file) in files.iter().enumerate() {
        let path = file.strip_prefix(&dist)?.to_str().ok_or("a file below ui/dist has a name that is not UTF-8")?;
        row(&mut table, &out, number, &format!("/{path}"), &std::fs::read(file)?)?;
    }
    table.push_str("];\n");
    std::fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.file_name().is_some_and(|n| n != "SOURCE") && path.extension().is_none_or(|e| e != "map") {
            files.push(path);
        }
    }
    Ok(())
}

fn row(table: &mut String, out: &Path, number: usize, path: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes)?;
    let packed = packed.finish()?;
    // A picture or font is packed already.
    let (gzip, stored) = if packed.len() < bytes.len() * 9 / 10 { (true, packed) } else { (false, bytes.to_vec()) };
    let file = out.join(format!("asset-{number}"));
    std::fs::write(&file, stored)?;
    // Only equality matters, so this hash need not withstand an attacker.
    let mut hash = DefaultHasher::new();
    hash.write(bytes);
    let etag = format!("\"{:016x}-{:x}\"", hash.finish(), bytes.len());
    let kind = media_type(path);
    writeln!(
        table,
        "    Asset {{ path: {path:?}, media_type: {kind:?}, etag: {etag:?}, gzip: {gzip}, bytes: include_bytes!({file:?}) }},"
    )?;
    Ok(())
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}
