//! The paths of handlers.

/// A path in which `{name}` is one segment, and `{*name}` the rest.
pub(super) struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
    Rest(String),
}

impl Pattern {
    pub(super) fn read(text: &str) -> Result<Pattern, String> {
        let Some(path) = text.strip_prefix('/') else {
            return Err("a path begins with `/`".to_owned());
        };
        if text.contains(['?', '#']) {
            return Err("the path ends before the query: take that as an argument".to_owned());
        }
        let mut pattern = Pattern {
            text: text.to_owned(),
            segments: Vec::new(),
        };
        for segment in path.split('/') {
            if let Some(Segment::Rest(rest)) = pattern.segments.last() {
                return Err(format!("`{{*{rest}}}` is the rest: it is the last segment"));
            }
            let segment = Segment::read(segment)?;
            if let Segment::Parameter(name) | Segment::Rest(name) = &segment
                && pattern.has(name)
            {
                return Err(format!("the path has `{name}` twice"));
            }
            pattern.segments.push(segment);
        }
        Ok(pattern)
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether it has a parameter of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.segments.iter().any(|segment| match segment {
            Segment::Literal(_) => false,
            Segment::Parameter(known) | Segment::Rest(known) => known == name,
        })
    }

    /// Returns a key by which a more exact path comes first: what is given is more exact than a parameter, and that more than
    /// the rest, from the left.
    pub(super) fn rank(&self) -> Vec<u8> {
        let segments = self.segments.iter();
        segments
            .map(|segment| match segment {
                Segment::Literal(_) => 0,
                Segment::Parameter(_) => 1,
                Segment::Rest(_) => 2,
            })
            .collect()
    }

    /// Returns the path without the names of its parameters: two with the same shape are for the same requests.
    pub(super) fn shape(&self) -> Vec<Option<&str>> {
        let rest = self.rank().last() == Some(&2);
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Some(text.as_str()),
            Segment::Parameter(_) | Segment::Rest(_) => None,
        });
        // A literal has no braces.
        segments.chain(rest.then_some(Some("{*}"))).collect()
    }
}

impl Segment {
    fn read(text: &str) -> Result<Segment, String> {
        let inside = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'));
        let (name, segment): (&str, fn(String) -> Segment) = match inside {
            None => (text, Segment::Literal),
            Some(name) => match name.strip_prefix('*') {
                Some(name) => (name, Segment::Rest),
                None => (name, Segment::Parameter),
            },
        };
        if name.contains(['{', '}', '*']) || (inside.is_some() && name.is_empty()) {
            return Err(format!(
                "`{text}`: a parameter is a whole segment, `{{name}}` or `{{*name}}`"
            ));
        }
        Ok(segment(name.to_owned()))
    }
}
