//! The declared routes as a tree of segments, and the walk through it. Their text is read in `lines` and `openapi`.

use super::Endpoint;
use super::segment::{Pattern, Segment, decode};
use super::target::Path;

/// Declared routes by segment; a look-up visits each node at most once and allocates only if the path has a `%`.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    /// The root is the first one; the others are named by their place.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// Sorted by their bytes.
    literals: Vec<(Box<[u8]>, usize)>,
    /// The one with the most fixed bytes first, then as declared.
    patterns: Vec<(Pattern, usize)>,
    param: Option<usize>,
    /// Routes that end in a tail here.
    tail: Ends,
    /// Routes that end here.
    ends: Ends,
}

/// What ends in one place: method and template, in the order of declaration.
#[derive(Debug, Clone, Default)]
struct Ends(Vec<(&'static str, Endpoint)>);

/// What is known about a path whose end is not known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// However it goes on, no declared route matches.
    Undeclared,
    /// However it goes on, this is the route.
    Surely(&'a Endpoint),
    /// It depends on the part that is missing.
    Unknown,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Tree {
    /// Declares one route.
    ///
    /// # Errors
    ///
    /// The template of the route that already has this method and matches exactly the same paths under another text.
    pub(super) fn insert(
        &mut self,
        method: &'static str,
        segments: &[Segment],
        template: Endpoint,
    ) -> Result<(), Endpoint> {
        let mut place = 0;
        let mut is_tail = false;
        for segment in segments {
            match segment {
                Segment::Tail => is_tail = true,
                _ => place = self.child_for(place, segment),
            }
        }
        let Some(node) = self.nodes.get_mut(place) else { return Ok(()) };
        let ends = if is_tail { &mut node.tail } else { &mut node.ends };
        match ends.of(method) {
            Some(known) if *known != template => Err(known.clone()),
            Some(_) => Ok(()),
            None => {
                ends.0.push((method, template));
                Ok(())
            }
        }
    }

    /// The route of a complete path: one of this method if there is one, else one of another method.
    pub(super) fn find(&self, method: &str, path: &[u8]) -> Option<&Endpoint> {
        let rest = path.strip_prefix(b"/");
        self.walk(0, rest, Some(method)).or_else(|| self.walk(0, rest, None))
    }

    /// What can be said of a path of which only the beginning is known.
    pub(super) fn find_cut(&self, method: &str, path: Path<'_>) -> Cut<'_> {
        let mut ends = Vec::new();
        self.possible(0, path.bytes.strip_prefix(b"/").unwrap_or_default(), &mut ends);
        match ends.as_slice() {
            [] => Cut::Undeclared,
            [(ends, true)] => match ends.of(method).or_else(|| ends.first()) {
                Some(template) => Cut::Surely(template),
                None => Cut::Unknown,
            },
            _ => Cut::Unknown,
        }
    }

    fn walk(&self, place: usize, rest: Option<&[u8]>, method: Option<&str>) -> Option<&Endpoint> {
        let node = self.nodes.get(place)?;
        let Some(rest) = rest else { return node.ends.at(node.ends.position(method)?) };
        let (raw, after) = split(rest);
        let segment = decode(raw);
        let literal = node.literal(&segment).and_then(|child| self.walk(child, after, method));
        literal
            .or_else(|| {
                let mut fitting = node.patterns.iter().filter(|(pattern, _)| pattern.matches(&segment));
                fitting.find_map(|(_, child)| self.walk(*child, after, method))
            })
            .or_else(|| if segment.is_empty() { None } else { self.walk(node.param?, after, method) })
            .or_else(|| node.tail.at(node.tail.position(method)?))
    }

    /// Collects every place where a path beginning so may end; `true` marks a tail that has begun already.
    fn possible<'a>(&'a self, place: usize, rest: &[u8], out: &mut Vec<(&'a Ends, bool)>) {
        let Some(node) = self.nodes.get(place) else { return };
        if !node.tail.0.is_empty() {
            out.push((&node.tail, true));
        }
        let (raw, after) = split(rest);
        if let Some(after) = after {
            let segment = decode(raw);
            let patterns =
                node.patterns.iter().filter(|(pattern, _)| pattern.matches(&segment)).map(|(_, child)| *child);
            let param = node.param.filter(|_| !segment.is_empty());
            for child in node.literal(&segment).into_iter().chain(patterns).chain(param) {
                self.possible(child, after, out);
            }
            return;
        }
        // The segment that was cut: an escape in it may be cut too, so only what stands before the first one counts.
        let known = raw.split(|&byte| byte == b'%').next().unwrap_or_default();
        let literals = node.literals.iter().filter(|(text, _)| text.starts_with(known)).map(|(_, child)| *child);
        let patterns = node.patterns.iter().map(|(_, child)| *child);
        for child in literals.chain(patterns).chain(node.param) {
            self.all_below(child, out);
        }
    }

    fn all_below<'a>(&'a self, place: usize, out: &mut Vec<(&'a Ends, bool)>) {
        let Some(node) = self.nodes.get(place) else { return };
        out.extend([&node.ends, &node.tail].into_iter().filter(|ends| !ends.0.is_empty()).map(|ends| (ends, false)));
        let literals = node.literals.iter().map(|(_, child)| *child);
        for child in literals.chain(node.patterns.iter().map(|(_, child)| *child)).chain(node.param) {
            self.all_below(child, out);
        }
    }

    fn child_for(&mut self, place: usize, segment: &Segment) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(place) else { return place };
        let child = match segment {
            Segment::Literal(text) => match node.literals.binary_search_by(|(known, _)| known.cmp(text)) {
                Ok(at) => node.literals.get(at).map_or(fresh, |(_, child)| *child),
                Err(at) => {
                    node.literals.insert(at, (text.clone(), fresh));
                    fresh
                }
            },
            Segment::Pattern(pattern) => {
                let known = node.patterns.iter().find(|(known, _)| known == pattern).map(|(_, child)| *child);
                known.unwrap_or_else(|| {
                    let at = node.patterns.partition_point(|(known, _)| known.fixed_len() >= pattern.fixed_len());
                    node.patterns.insert(at, (pattern.clone(), fresh));
                    fresh
                })
            }
            Segment::Param | Segment::Tail => *node.param.get_or_insert(fresh),
        };
        if child == fresh {
            self.nodes.push(Node::default());
        }
        child
    }
}

impl Node {
    fn literal(&self, segment: &[u8]) -> Option<usize> {
        let at = self.literals.binary_search_by(|(text, _)| (**text).cmp(segment)).ok()?;
        self.literals.get(at).map(|(_, child)| *child)
    }
}

impl Ends {
    fn of(&self, method: &str) -> Option<&Endpoint> {
        self.at(self.position(Some(method))?)
    }

    fn first(&self) -> Option<&Endpoint> {
        self.at(0)
    }

    /// Where the route of this method is, or of any method at all.
    fn position(&self, method: Option<&str>) -> Option<usize> {
        self.0.iter().position(|(name, _)| method.is_none_or(|method| *name == method))
    }

    fn at(&self, place: usize) -> Option<&Endpoint> {
        self.0.get(place).map(|(_, template)| template)
    }
}

/// The segment up to the next slash, and what follows that slash if there is one.
fn split(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    match rest.iter().position(|&byte| byte == b'/') {
        Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
        None => (rest, None),
    }
}
