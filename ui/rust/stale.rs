//! The committed `ui/dist` must be built from the committed sources. Its `SOURCE` holds one hash over all of them, written by
//! `npm run build`; this computes the same without Node.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// SHA-256 over the lines `<sha256 of the file>  <path below ui>`, sorted by path.
fn source(ui: &Path) -> String {
    let mut files = Vec::new();
    walk(&ui.join("src"), &mut files);
    let others = ["index.html", "package.json", "package-lock.json", "vite.config.ts", "svelte.config.js"];
    files.extend(others.iter().map(|name| ui.join(name)).filter(|path| path.exists()));
    let mut lines: Vec<(String, String)> = files
        .iter()
        .map(|file| (file.strip_prefix(ui).unwrap().to_str().unwrap().to_owned(), hex(&Sha256::digest(std::fs::read(file).unwrap()))))
        .collect();
    lines.sort();
    let text: String = lines.iter().map(|(path, hash)| format!("{hash}  {path}\n")).collect();
    hex(&Sha256::digest(text))
}

#[test]
fn the_built_page_belongs_to_its_sources() {
    let ui = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(built) = std::fs::read_to_string(ui.join("dist/SOURCE")) else { return };
    assert_eq!(built.trim(), source(ui), "ui/dist is stale: run `npm ci && npm run build` in ui/ and commit ui/dist");
}

#[test]
fn the_hash_is_the_one_that_was_agreed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("src/b")).unwrap();
    std::fs::write(dir.path().join("src/b/x.ts"), "x").unwrap();
    std::fs::write(dir.path().join("src/a.ts"), "").unwrap();
    std::fs::write(dir.path().join("index.html"), "hi").unwrap();
    let before = source(dir.path());
    // sha256sum index.html src/a.ts src/b/x.ts | sha256sum
    assert_eq!(before, "0c1dd88a7e035b4d4cdfac1cb3006ce176f8847921e73344bd04902d59a4e29b");
    std::fs::write(dir.path().join("src/b/x.ts"), "y").unwrap();
    assert_ne!(source(dir.path()), before);
}
