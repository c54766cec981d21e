//! Data forms (XEP-0004) with ranges (XEP-0122), and how a command's arguments become one and come back.
//!
//! Every field is usable as plain text, as some clients know nothing else: sizes are `512MiB`, numbers are digits. What comes
//! back is read by the argument it is for, never by the type the client claims.

use super::{set_attr, text_element};
use crate::ns;
use archipel_contract::{
    Bytes, Fault,
    catalog::{Argument, ArgumentKind, CommandEntry},
};
use minidom::Element;
use rxml::xml_ncname;
use serde_json::{Map, Value};

/// The namespace of field validation (XEP-0122).
const VALIDATE: &str = "http://jabber.org/protocol/xdata-validate";
/// The most fields and values that are read of one form.
const MAX_FIELDS: usize = 256;

/// What a form is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormKind {
    /// To be filled in.
    Form,
    /// Filled in.
    Submit,
    /// An answer.
    Result,
    /// Given up.
    Cancel,
}

impl FormKind {
    /// All kinds.
    pub const ALL: [FormKind; 4] = [FormKind::Form, FormKind::Submit, FormKind::Result, FormKind::Cancel];
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            FormKind::Form => "form",
            FormKind::Submit => "submit",
            FormKind::Result => "result",
            FormKind::Cancel => "cancel",
        }
    }
}

/// How a field is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Not shown.
    Hidden,
    /// Text to read.
    Fixed,
    /// Yes or no.
    Boolean,
    /// One line.
    TextSingle,
    /// Several lines, one value each.
    TextMulti,
    /// One of some words.
    ListSingle,
}

impl FieldKind {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            FieldKind::Hidden => "hidden",
            FieldKind::Fixed => "fixed",
            FieldKind::Boolean => "boolean",
            FieldKind::TextSingle => "text-single",
            FieldKind::TextMulti => "text-multi",
            FieldKind::ListSingle => "list-single",
        }
    }
}

/// The least and the greatest number a field may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub minimum: Option<i64>,
    /// The greatest.
    pub maximum: Option<i64>,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub var: String,
    /// How it is shown.
    pub kind: FieldKind,
    /// What people read in front of it.
    pub label: Option<String>,
    /// More about it.
    pub description: Option<String>,
    /// Whether it must be filled in.
    pub required: bool,
    /// What it holds.
    pub values: Vec<String>,
    /// The words to choose from.
    pub options: Vec<String>,
    /// It holds a whole number in this range.
    pub range: Option<Range>,
}

impl Field {
    /// A field with one value.
    pub fn new(var: &str, kind: FieldKind, value: impl Into<String>) -> Field {
        Field {
            var: var.to_owned(),
            kind,
            label: None,
            description: None,
            required: false,
            values: vec![value.into()],
            options: Vec::new(),
            range: None,
        }
    }
    /// The same field with a label.
    pub fn labelled(mut self, label: impl Into<String>) -> Field {
        self.label = Some(label.into());
        self
    }

    fn print(&self) -> Element {
        let mut field = Element::bare("field", ns::DATA_FORMS);
        if !self.var.is_empty() {
            set_attr(&mut field, xml_ncname!("var"), &self.var);
        }
        set_attr(&mut field, xml_ncname!("type"), self.kind.name());
        if let Some(label) = &self.label {
            set_attr(&mut field, xml_ncname!("label"), label);
        }
        if let Some(description) = &self.description {
            field.append_child(text_element("desc", ns::DATA_FORMS, description));
        }
        if self.required {
            field.append_child(Element::bare("required", ns::DATA_FORMS));
        }
        if let Some(range) = &self.range {
            let mut validate = Element::bare("validate", VALIDATE);
            set_attr(&mut validate, xml_ncname!("datatype"), "xs:integer");
            if range.minimum.is_none() && range.maximum.is_none() {
                validate.append_child(Element::bare("basic", VALIDATE));
            } else {
                let mut limits = Element::bare("range", VALIDATE);
                if let Some(minimum) = range.minimum {
                    set_attr(&mut limits, xml_ncname!("min"), &minimum.to_string());
                }
                if let Some(maximum) = range.maximum {
                    set_attr(&mut limits, xml_ncname!("max"), &maximum.to_string());
                }
                validate.append_child(limits);
            }
            field.append_child(validate);
        }
        for value in &self.values {
            field.append_child(text_element("value", ns::DATA_FORMS, value));
        }
        for option in &self.options {
            let mut element = Element::bare("option", ns::DATA_FORMS);
            set_attr(&mut element, xml_ncname!("label"), option);
            element.append_child(text_element("value", ns::DATA_FORMS, option));
            field.append_child(element);
        }
        field
    }
}

/// A form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// What it is for.
    pub kind: FormKind,
    /// Its title.
    pub title: Option<String>,
    /// What to do with it.
    pub instructions: Option<String>,
    /// Its fields.
    pub fields: Vec<Field>,
    /// The columns of a table: name and label.
    pub columns: Vec<(String, String)>,
    /// The rows of that table, one value for each column.
    pub rows: Vec<Vec<String>>,
}

impl Form {
    /// An empty form of this kind; `form_type` says what its fields mean (XEP-0068).
    pub fn new(kind: FormKind, form_type: &str) -> Form {
        Form {
            kind,
            title: None,
            instructions: None,
            fields: vec![Field::new("FORM_TYPE", FieldKind::Hidden, form_type)],
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The first value of a field.
    pub fn value(&self, var: &str) -> Option<&str> {
        self.fields.iter().find(|f| f.var == var).and_then(|f| f.values.first()).map(String::as_str)
    }

    /// The `<x/>` element.
    pub fn print(&self) -> Element {
        let mut form = Element::bare("x", ns::DATA_FORMS);
        set_attr(&mut form, xml_ncname!("type"), self.kind.name());
        if let Some(title) = &self.title {
            form.append_child(text_element("title", ns::DATA_FORMS, title));
        }
        if let Some(instructions) = &self.instructions {
            form.append_child(text_element("instructions", ns::DATA_FORMS, instructions));
        }
        for field in &self.fields {
            form.append_child(field.print());
        }
        if !self.columns.is_empty() {
            let mut reported = Element::bare("reported", ns::DATA_FORMS);
            for (var, label) in &self.columns {
                let mut field = Element::bare("field", ns::DATA_FORMS);
                set_attr(&mut field, xml_ncname!("var"), var);
                set_attr(&mut field, xml_ncname!("type"), FieldKind::TextSingle.name());
                set_attr(&mut field, xml_ncname!("label"), label);
                reported.append_child(field);
            }
            form.append_child(reported);
            for row in &self.rows {
                let mut item = Element::bare("item", ns::DATA_FORMS);
                for ((var, _), value) in self.columns.iter().zip(row) {
                    let mut field = Element::bare("field", ns::DATA_FORMS);
                    set_attr(&mut field, xml_ncname!("var"), var);
                    field.append_child(text_element("value", ns::DATA_FORMS, value));
                    item.append_child(field);
                }
                form.append_child(item);
            }
        }
        form
    }

    /// Reads what somebody filled in: the names and values of the fields; everything else of a form is for showing.
    pub fn parse(element: &Element) -> Result<Form, Fault> {
        if !element.is("x", ns::DATA_FORMS) {
            return Err(Fault::invalid(format!("<{}/> is not a form", element.name())));
        }
        let kind = FormKind::ALL
            .into_iter()
            .find(|k| element.attr("type") == Some(k.name()))
            .ok_or_else(|| Fault::invalid("a form needs a type: form, submit, result or cancel"))?;
        let mut form = Form { kind, title: None, instructions: None, fields: Vec::new(), columns: Vec::new(), rows: Vec::new() };
        for field in element.children().filter(|c| c.is("field", ns::DATA_FORMS)) {
            let values: Vec<String> =
                field.children().filter(|c| c.is("value", ns::DATA_FORMS)).take(MAX_FIELDS).map(Element::text).collect();
            let var = field.attr("var").unwrap_or_default().to_owned();
            if form.fields.len() >= MAX_FIELDS {
                return Err(Fault::invalid(format!("a form has at most {MAX_FIELDS} fields")));
            }
            form.fields.push(Field { values, ..Field::new(&var, FieldKind::TextSingle, "") });
        }
        Ok(form)
    }
}

/// The type of a command's form.
pub fn form_type(command: &str) -> String {
    format!("urn:archipel:command:0#{command}")
}

/// The form that asks for a command's arguments, filled in with what is known already, else with the defaults.
pub fn of_command(entry: &CommandEntry, given: &Map<String, Value>) -> Form {
    let mut form = Form::new(FormKind::Form, &form_type(&entry.name));
    form.title = Some(entry.title.clone());
    form.instructions = Some(entry.description.clone());
    for argument in &entry.arguments {
        let kind = match argument.kind {
            ArgumentKind::Boolean => FieldKind::Boolean,
            ArgumentKind::Choice => FieldKind::ListSingle,
            ArgumentKind::Text | ArgumentKind::Integer | ArgumentKind::Bytes => FieldKind::TextSingle,
        };
        let value = given.get(&argument.name).or(argument.default.as_ref());
        form.fields.push(Field {
            var: argument.name.clone(),
            kind,
            label: Some(argument.name.replace('_', " ")),
            description: Some(argument.description.clone()),
            required: argument.required,
            values: value.map(|v| vec![shown(argument, v)]).unwrap_or_default(),
            options: argument.choices.clone(),
            range: (argument.kind == ArgumentKind::Integer).then_some(Range { minimum: argument.minimum, maximum: argument.maximum }),
        });
    }
    form
}

/// What somebody filled in, as the command's arguments. Empty fields that need not be filled in keep their default.
pub fn arguments(entry: &CommandEntry, form: &Form) -> Result<Map<String, Value>, Fault> {
    let mut arguments = Map::new();
    for argument in &entry.arguments {
        let values = form.fields.iter().find(|f| f.var == argument.name).map(|f| f.values.join("\n")).unwrap_or_default();
        if values.is_empty() {
            if argument.required {
                return Err(Fault::invalid(format!("{} is missing: {}", argument.name, argument.description)));
            }
            continue;
        }
        arguments.insert(argument.name.clone(), read(argument, &values)?);
    }
    Ok(arguments)
}

/// Reads the text somebody wrote for an argument.
pub fn read(argument: &Argument, text: &str) -> Result<Value, Fault> {
    let name = &argument.name;
    match argument.kind {
        ArgumentKind::Text => Ok(text.into()),
        ArgumentKind::Boolean => match text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true.into()),
            "0" | "false" | "no" | "off" => Ok(false.into()),
            _ => Err(Fault::invalid(format!("{name} is yes or no, not {text:?}"))),
        },
        ArgumentKind::Integer => {
            let number: i64 = text.trim().parse().map_err(|_| Fault::invalid(format!("{name} is a whole number, not {text:?}")))?;
            let (low, high) = (argument.minimum.unwrap_or(i64::MIN), argument.maximum.unwrap_or(i64::MAX));
            if !(low..=high).contains(&number) {
                return Err(Fault::invalid(match (argument.minimum, argument.maximum) {
                    (Some(low), Some(high)) => format!("{name} is {low} to {high}, not {number}"),
                    (Some(low), None) => format!("{name} is at least {low}, not {number}"),
                    _ => format!("{name} is at most {high}, not {number}"),
                }));
            }
            Ok(number.into())
        }
        ArgumentKind::Bytes => text.parse::<Bytes>().map(|b| b.0.into()).map_err(|e| Fault::invalid(format!("{name}: {e}"))),
        ArgumentKind::Choice => {
            let word = text.trim();
            if argument.choices.iter().any(|c| c == word) {
                Ok(word.into())
            } else {
                Err(Fault::invalid(format!("{name} is one of {}, not {word:?}", argument.choices.join(", "))))
            }
        }
    }
}

/// A value as people would write it into the field.
fn shown(argument: &Argument, value: &Value) -> String {
    match (argument.kind, value) {
        (ArgumentKind::Boolean, Value::Bool(yes)) => if *yes { "1" } else { "0" }.to_owned(),
        (ArgumentKind::Bytes, Value::Number(n)) => n.as_u64().map_or_else(|| n.to_string(), exact),
        (_, Value::String(text)) => text.clone(),
        (_, other) => other.to_string(),
    }
}

/// A size in the largest unit that shows it exactly, so that it reads back as the same number.
fn exact(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::tests::over_the_wire;
    use archipel_contract::{catalog, domain};

    fn define() -> CommandEntry {
        catalog::entry::<domain::DefineDomain>()
    }

    #[test]
    fn a_form_left_as_it_is_means_the_defaults() {
        for entry in
            [catalog::entry::<domain::StartDomain>(), catalog::entry::<domain::ShutdownDomain>(), catalog::entry::<domain::ListDomains>()]
        {
            let form = of_command(&entry, &Map::new());
            let back = Form::parse(&over_the_wire(&form.print())).unwrap();
            let arguments = arguments(&entry, &back).unwrap();
            for argument in &entry.arguments {
                let expected = argument.default.clone().filter(|d| d != "");
                assert_eq!(arguments.get(&argument.name), expected.as_ref(), "{} of {}", argument.name, entry.name);
            }
        }
    }

    #[test]
    fn fields_show_type_range_choices_and_what_is_required() {
        let form = of_command(&define(), &Map::new());
        let field = |name: &str| form.fields.iter().find(|f| f.var == name).unwrap();
        assert!(field("name").required && !field("memory").required);
        assert_eq!(field("memory").values, ["1GiB"]);
        assert_eq!(field("vcpus").range, Some(Range { minimum: Some(1), maximum: Some(512) }));
        assert_eq!(field("graphics").options, ["none", "vnc"]);
        assert_eq!(field("FORM_TYPE").kind, FieldKind::Hidden);
        let text = String::from(&form.print());
        assert!(text.contains("xdata-validate") && text.contains("512"), "{text}");
    }

    #[test]
    fn what_was_filled_in_is_read_by_the_argument() {
        let form: Element = "<x xmlns='jabber:x:data' type='submit'><field var='name'><value>web1</value></field>\
            <field var='memory'><value>512 MiB</value></field><field var='vcpus'><value>2</value></field>\
            <field var='disk'/><field var='other'><value>x</value></field></x>"
            .parse()
            .unwrap();
        let arguments = arguments(&define(), &Form::parse(&form).unwrap()).unwrap();
        assert_eq!(Value::Object(arguments), serde_json::json!({ "name": "web1", "memory": 536_870_912u64, "vcpus": 2 }));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (field, value, word) in [
            ("vcpus", "0", "1 to 512"),
            ("vcpus", "two", "whole number"),
            ("memory", "much", "size"),
            ("graphics", "crt", "none, vnc"),
            ("name", "", "missing"),
        ] {
            let mut form = Form::new(FormKind::Submit, "x");
            if field != "name" {
                form.fields.push(Field::new("name", FieldKind::TextSingle, "web1"));
            }
            form.fields.push(Field::new(field, FieldKind::TextSingle, value));
            let fault = arguments(&define(), &form).expect_err(field);
            assert!(fault.message.contains(word) && fault.message.contains(field), "{fault}");
        }
    }

    #[test]
    fn every_shipped_command_has_a_form_that_reads_back() {
        for entry in &catalog::Catalog::shipped().commands {
            let mut given = Map::new();
            for argument in entry.arguments.iter().filter(|a| a.required) {
                let value = match argument.choices.first() {
                    Some(word) => word.as_str().into(),
                    None if matches!(argument.kind, catalog::ArgumentKind::Integer | catalog::ArgumentKind::Bytes) => 1.into(),
                    None => "x".into(),
                };
                given.insert(argument.name.clone(), value);
            }
            let printed = over_the_wire(&of_command(entry, &given).print());
            let back = arguments(entry, &Form::parse(&printed).unwrap()).unwrap_or_else(|f| panic!("{}: {f}", entry.name));
            for name in given.keys() {
                assert!(back.contains_key(name), "{} of {}", name, entry.name);
            }
        }
    }
}
