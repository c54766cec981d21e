//! What an edit does to a tree: small steps that leave everything else where it is.

use crate::xml::tree::{Element, Node};

impl Element {
    /// The child elements, to be changed.
    pub fn elements_mut(&mut self) -> impl Iterator<Item = &mut Element> {
        self.children.iter_mut().filter_map(|c| match c {
            Node::Element(e) => Some(e),
            _ => None,
        })
    }

    /// The first child element of that name, to be changed.
    pub fn child_mut(&mut self, name: &str) -> Option<&mut Element> {
        self.elements_mut().find(|e| e.name == name)
    }

    /// The first child element of that name; there is one afterwards.
    pub fn ensure(&mut self, name: &str) -> &mut Element {
        let place = self.children.iter().position(|c| matches!(c, Node::Element(e) if e.name == name));
        let place = place.unwrap_or_else(|| {
            self.append(Element::new(name));
            self.children.iter().rposition(|c| matches!(c, Node::Element(_))).unwrap_or_default()
        });
        match &mut self.children[place] {
            Node::Element(element) => element,
            _ => unreachable!("the place was found by looking for an element"),
        }
    }

    /// Puts an element behind the last one, before the white space at the end.
    pub fn append(&mut self, element: Element) {
        let last = self.children.iter().rposition(|c| matches!(c, Node::Element(_)));
        let place = match last {
            Some(last) => last + 1,
            None => self.children.len(),
        };
        self.children.insert(place, Node::Element(element));
    }

    /// Puts an element behind the last one of its name, or at the end.
    pub fn append_beside(&mut self, element: Element) {
        match self.children.iter().rposition(|c| matches!(c, Node::Element(e) if e.name == element.name)) {
            Some(last) => self.children.insert(last + 1, Node::Element(element)),
            None => self.append(element),
        }
    }

    /// Takes out every child element that fits, with the white space before it; answers them.
    pub fn take(&mut self, mut fits: impl FnMut(&Element) -> bool) -> Vec<Element> {
        let mut taken = Vec::new();
        let mut kept: Vec<Node> = Vec::with_capacity(self.children.len());
        for child in std::mem::take(&mut self.children) {
            match child {
                Node::Element(element) if fits(&element) => {
                    if matches!(kept.last(), Some(Node::Text(text)) if text.trim().is_empty()) {
                        kept.pop();
                    }
                    taken.push(element);
                }
                // Two texts beside each other would be one when read again.
                Node::Text(text) => match kept.last_mut() {
                    Some(Node::Text(before)) => before.push_str(&text),
                    _ => kept.push(Node::Text(text)),
                },
                other => kept.push(other),
            }
        }
        self.children = kept;
        taken
    }

    /// Takes out every child element of that name.
    pub fn remove(&mut self, name: &str) {
        self.take(|e| e.name == name);
    }

    /// Sets an attribute where it stands, or at the end.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.attributes.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value.into(),
            None => self.attributes.push((name.to_owned(), value.into())),
        }
    }

    /// Takes attributes away.
    pub fn unset(&mut self, names: &[&str]) {
        self.attributes.retain(|(n, _)| !names.contains(&n.as_str()));
    }

    /// Replaces the text; comments and elements in it stay.
    pub fn say(&mut self, text: &str) {
        if self.text().trim() == text {
            return;
        }
        self.children.retain(|c| !matches!(c, Node::Text(_)));
        if !text.is_empty() {
            self.children.insert(0, Node::Text(text.to_owned()));
        }
    }

    /// The value of an attribute of a child; empty where there is none.
    pub fn of(&self, child: &str, attribute: &str) -> &str {
        self.child(child).and_then(|c| c.attribute(attribute)).unwrap_or_default()
    }
}
