//! The borders of decision 0001 and the house rules that a machine can hold: who may import whom, where unsafe code may be,
//! how long a file may grow, and that what is generated is not stale. Each test names what to do about what it finds.
//!
//! `ARCHIPEL_UPDATE=1` writes the generated files again instead of failing.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // In a test a missing file is a failed test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path} cannot be read: {e}"))
}

/// Each crate of ours: its folder, the file with its attributes, and which others of ours it may use.
const CRATES: &[(&str, &str, &str, &[&str])] = &[
    ("archipel-contract", "actors/contract", "src/lib.rs", &[]),
    ("archipel-actors", "actors", "src/lib.rs", &["archipel-contract"]),
    ("archipel-store", "actors/store", "src/lib.rs", &["archipel-contract"]),
    ("archipel-libvirt", "libvirt-bridge", "src/lib.rs", &["archipel-contract"]),
    ("archipel-xmpp", "xmpp-gateway", "src/lib.rs", &["archipel-contract"]),
    ("archipel-ui", "ui", "rust/lib.rs", &["archipel-contract"]),
    ("archipel-supervisors", "supervisors", "src/lib.rs", &["archipel-contract", "archipel-actors"]),
    ("archipeld", "supervisors/daemon", "src/main.rs", &["*"]),
    ("archipel-tests", "tests", "harness/lib.rs", &["*"]),
];

/// Frameworks that the vocabulary must not know.
const FRAMEWORKS: &[&str] =
    &["actix", "actix-rt", "actix-web", "tokio", "tokio-xmpp", "xmpp-parsers", "virt", "virt-sys", "rusqlite", "rustls"];

/// The names of what a manifest depends on to build and run; what only its tests use is free.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            if let Some(dependency) = section.strip_prefix("dependencies.") {
                found.insert(dependency.to_owned());
            }
        } else if section == "dependencies" || section == "build-dependencies" {
            let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_').collect();
            if !name.is_empty() {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn each_crate_imports_only_what_its_border_allows() {
    let ours: BTreeSet<&str> = CRATES.iter().map(|c| c.0).collect();
    let mut wrong = Vec::new();
    for (name, folder, _, allowed) in CRATES {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{folder} is not the folder of {name}; mend the table of this test");
        for dependency in dependencies(&manifest) {
            if ours.contains(dependency.as_str()) && !allowed.contains(&"*") && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{name} imports {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}: see ops/decisions/0001-layout-and-borders.md; put what both need into the contract");
}

#[test]
fn every_member_of_the_workspace_has_a_border() {
    let manifest = read("Cargo.toml");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    let known: BTreeSet<&str> = CRATES.iter().map(|c| c.1).collect();
    assert_eq!(members, known, "a crate without a line in the table of this test has no border");
}

#[test]
fn the_vocabulary_knows_no_framework() {
    let found: Vec<_> =
        dependencies(&read("actors/contract/Cargo.toml")).into_iter().filter(|d| FRAMEWORKS.contains(&d.as_str())).collect();
    assert!(found.is_empty(), "the contract imports {found:?}; it may only say what can be said");
}

#[test]
fn the_parser_of_this_test_sees_a_forbidden_import() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\narchipel-actors.workspace = true\ntokio = { version = \"1\" }\n[dev-dependencies]\nvirt = \"0\"\n[dependencies.actix]\n";
    let seen = dependencies(manifest);
    assert!(["archipel-actors", "tokio", "actix"].iter().all(|d| seen.contains(*d)), "{seen:?}");
    assert!(!seen.contains("virt"), "what only tests use is free: {seen:?}");
}

#[test]
fn unsafe_code_is_forbidden_everywhere_but_in_the_libvirt_bridge() {
    for (name, folder, file, _) in CRATES {
        let text = read(&format!("{folder}/{file}"));
        let forbids = text.contains("#![forbid(unsafe_code)]");
        if *name == "archipel-libvirt" {
            assert!(!forbids, "{folder}/{file}: the bridge is the one place with unsafe code; has it none any more?");
        } else {
            assert!(forbids, "{folder}/{file} lacks #![forbid(unsafe_code)]");
        }
    }
}

// ---------------------------------------------------------------- files

/// All files of the project that people write, as paths from the root.
fn sources() -> Vec<String> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                // Built, downloaded or generated: nobody writes these.
                if !["target", ".git", "node_modules", "dist", "gen", "generated", "test-results", "__pycache__"].contains(&name.as_str()) {
                    walk(&path, root, found);
                }
            } else {
                found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &root(), &mut found);
    assert!(found.len() > 50, "the walk through the project found only {} files", found.len());
    found
}

const CODE: &[&str] = &["rs", "ts", "svelte", "py", "sh", "css", "mjs", "js"];

fn is_code(path: &str) -> bool {
    CODE.contains(&path.rsplit('.').next().unwrap_or_default()) || (path.starts_with("ops/") && !path.contains('.'))
}

/// Longest file, in lines that say something; the unit tests at its end do not count.
const LONGEST: usize = 500;

#[test]
fn no_file_grows_beyond_five_hundred_lines() {
    let mut long = Vec::new();
    for path in sources().into_iter().filter(|p| is_code(p) && !p.contains(".gen.")) {
        let text = read(&path);
        let program = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let lines = program.lines().filter(|l| !l.trim().is_empty()).count();
        if lines > LONGEST {
            long.push(format!("{path} ({lines})"));
        }
    }
    assert!(long.is_empty(), "these files want splitting: {long:?}");
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    // Written in two halves, so that this file does not find itself.
    let needles = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut found = Vec::new();
    for path in sources() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if needles.iter().any(|n| line.contains(n)) {
                found.push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "these lines name a path that other machines do not have: {found:?}");
}

// ---------------------------------------------------------------- generated files

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The manual page of all commands, from the catalog.
fn commands_page() -> String {
    use std::fmt::Write as _;
    let catalog: serde_json::Value = serde_json::from_str(&read("actors/contract/catalog.json")).unwrap();
    let mut page = String::from(
        "# Commands\n\nGenerated from `actors/contract/catalog.json` by `just catalog`; do not edit. Every command is a verb of the CLI \
         (`archipel NOUN VERB`), an ad-hoc command of the entity's address (node `noun.verb`), a word in its chat, and a button of the page.\n",
    );
    let mut nouns: BTreeMap<&str, Vec<&serde_json::Value>> = BTreeMap::new();
    // What agents say to each other is no command of people.
    for command in catalog["commands"].as_array().unwrap().iter().filter(|c| c["access"] != "node") {
        nouns.entry(command["noun"].as_str().unwrap()).or_default().push(command);
    }
    for (noun, commands) in nouns {
        write!(page, "\n## {noun}\n").unwrap();
        for c in commands {
            let word = |key: &str| c[key].as_str().unwrap_or_default();
            write!(
                page,
                "\n### {}\n\n{}\n\nSent to: {}. Effect: {}. Needs: {}.\n",
                word("name"),
                word("description"),
                word("target"),
                word("effect"),
                word("access")
            )
            .unwrap();
            let arguments = c["arguments"].as_array().unwrap();
            if !arguments.is_empty() {
                page.push_str("\n| Argument | Kind | Default | Meaning |\n|---|---|---|---|\n");
            }
            for a in arguments {
                let default = if a["required"] == true {
                    "(required)".to_owned()
                } else {
                    a.get("default").map(|d| d.to_string()).unwrap_or_default()
                };
                let choices: Vec<_> = a["choices"].as_array().into_iter().flatten().filter_map(|c| c.as_str()).collect();
                let kind = if choices.is_empty() { a["kind"].as_str().unwrap().to_owned() } else { choices.join(", ") };
                writeln!(
                    page,
                    "| `--{}` | {} | {} | {} |",
                    a["name"].as_str().unwrap().replace('_', "-"),
                    escape(&kind),
                    escape(&default),
                    escape(a["description"].as_str().unwrap())
                )
                .unwrap();
            }
            let refusals: Vec<String> = c["policy"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(state, verdict)| verdict["reason"].as_str().map(|why| format!("{state}: {why}")))
                .collect();
            if !refusals.is_empty() {
                write!(page, "\nRefused when the state is {}.\n", refusals.join("; ")).unwrap();
            }
        }
    }
    page.push_str("\n## Exit codes of the CLI\n\n| Fault | Code |\n|---|---|\n");
    for (fault, code) in catalog["faults"].as_object().unwrap() {
        writeln!(page, "| {fault} | {code} |").unwrap();
    }
    page.push_str("\n## Events\n\n| Topic | Meaning |\n|---|---|\n");
    for (topic, meaning) in catalog["events"].as_object().unwrap() {
        writeln!(page, "| {topic} | {} |", escape(meaning.as_str().unwrap())).unwrap();
    }
    page
}

#[test]
fn the_generated_page_of_commands_is_current() {
    let path = root().join("ops/generated/commands.md");
    let page = commands_page();
    if std::env::var_os("ARCHIPEL_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(shipped == page, "ops/generated/commands.md is stale: run just catalog");
}

/// The demo guest's image is checked in, so that nobody needs an assembler; it must be what its source says.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_demo_guest_is_built_from_its_source() {
    use std::process::Command;
    let dir = tempfile::tempdir().unwrap();
    let (object, image) = (dir.path().join("tick.o"), dir.path().join("tick.img"));
    let assembled = Command::new("as").arg("--32").arg("-o").arg(&object).arg(root().join("ops/demo/tick.S")).status();
    assert!(assembled.expect("as is needed (Debian: binutils)").success());
    let linked = Command::new("ld")
        .args(["-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-e", "start", "-o"])
        .arg(&image)
        .arg(&object)
        .status();
    assert!(linked.expect("ld is needed (Debian: binutils)").success());
    let built = std::fs::read(&image).unwrap();
    assert_eq!(built.len(), 512, "a boot sector is 512 bytes");
    assert!(
        built == std::fs::read(root().join("ops/demo/tick.img")).unwrap(),
        "ops/demo/tick.img is not what ops/demo/tick.S says; build it again"
    );
}
