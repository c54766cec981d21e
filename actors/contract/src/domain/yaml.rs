//! Whether a text is YAML, and a mapping. Nothing is built from it: the guest's own cloud-init reads it.
//!
//! cloud-init skips a `#cloud-config` that it cannot read, with a line in a log of a guest that nobody can then log in to. So what no
//! reader of YAML takes is refused before anything is made. What its settings mean is between the image and its author.

use crate::Fault;
use saphyr_parser::{Event, Marker, Parser};

fn at(what: &str, place: Marker, why: &str) -> Fault {
    let why: String = why.chars().take(200).collect();
    Fault::invalid(format!("the {what} is wrong in line {}, column {}: {why}", place.line(), place.col() + 1))
}

/// Refuses a text that is not one YAML document with a mapping in it, with the place where it ends to be one.
pub(super) fn check_mapping(what: &str, text: &str) -> Result<(), Fault> {
    let mut documents = 0;
    let mut inside = false;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| at(what, *error.marker(), error.info()))?;
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(at(what, span.start, "a second document begins here; cloud-init reads one only"));
                }
            }
            Event::MappingStart(..) => inside = true,
            Event::SequenceStart(..) | Event::Scalar(..) | Event::Alias(_) if !inside => {
                return Err(at(what, span.start, "it must begin with a setting, such as `users:`, and not with a list or a text"));
            }
            _ => {}
        }
    }
    match inside {
        true => Ok(()),
        false => Err(Fault::invalid(format!("the {what} says nothing; write a setting into it, or leave it away"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(text: &str) -> String {
        check_mapping("user-data", text).unwrap_err().message
    }

    #[test]
    fn what_is_a_mapping_passes() {
        for good in [
            "#cloud-config\nusers:\n  - name: me\n    ssh_authorized_keys: [a, b]\nruncmd:\n  - [sh, -c, 'echo \"x\"']\n",
            "#cloud-config\n---\npackages: [vim]\n...\n",
            "#cloud-config\n{}\n",
            "#cloud-config\nwrite_files:\n- path: /a\n  content: |\n    #!/bin/sh\n    : [ not yaml\n",
            "base: &b {a: 1}\nother: *b\n",
            "#cloud-config\r\na: 1\r\n",
        ] {
            check_mapping("user-data", good).unwrap_or_else(|f| panic!("{good}: {f}"));
        }
    }

    #[test]
    fn what_is_not_is_refused_with_its_place() {
        let tab = refusal("#cloud-config\nusers:\n\t- name: me\n");
        assert!(tab.contains("line 3, column 2"), "{tab}");
        let open = refusal("#cloud-config\na: [1, 2\nb: 3\n");
        assert!(open.contains("line 3") || open.contains("line 2"), "{open}");
        let indent = refusal("#cloud-config\na: 1\n  b: 2\n");
        assert!(indent.contains("line 3"), "{indent}");
        assert!(refusal("#cloud-config\n- a\n").contains("line 2, column 1: it must begin with a setting"));
        assert!(refusal("#cloud-config\nhello\n").contains("line 2, column 1"));
        assert!(refusal("#cloud-config\na: 1\n---\nb: 2\n").contains("a second document"));
        assert!(refusal("#cloud-config\na: *nobody\n").contains("line 2"));
        assert_eq!(refusal("#cloud-config\n"), "the user-data says nothing; write a setting into it, or leave it away");
    }

    #[test]
    fn depth_and_aliases_cost_nothing() {
        let deep = format!("a: {}{}", "[".repeat(20_000), "]".repeat(20_000));
        let _ = check_mapping("user-data", &deep);
        let mut laughs = "a0: &a0 x\n".to_owned();
        for n in 1..60 {
            laughs.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
        }
        check_mapping("user-data", &laughs).unwrap();
    }

    proptest! {
        #[test]
        fn no_text_makes_the_check_panic(text in "(a|:| |\n|\t|-|[\\[\\]{}&*!|>'\"%@#?,]|\u{e4}){0,60}") {
            let _ = check_mapping("user-data", &text);
        }
    }
}
